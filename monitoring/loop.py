"""How late the event loop wakes up: what every blocking call costs.

Owns the measurement `headwater_event_loop_lag_seconds`. A loop that is late
delays Kafka's heartbeats and every answer, so its lag explains both.
"""

import asyncio
from typing import NoReturn

from .metrics import EVENT_LOOP_LAG


async def watch_event_loop(interval_s: float = 0.1) -> NoReturn:
    """Observe the running loop's lag until cancelled.

    Args:
        interval_s: time between two measurements; a blocked stretch shorter
            than it may fall between them.
    """
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        EVENT_LOOP_LAG.observe(max(loop.time() - due_s, 0.0))

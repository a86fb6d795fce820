"""The event loop's lag is measured while the loop is blocked."""

import asyncio
import time

from monitoring.loop import watch_event_loop
from monitoring.metrics import REGISTRY

SUM = "headwater_event_loop_lag_seconds_sum"
COUNT = "headwater_event_loop_lag_seconds_count"


def sample(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


async def test_a_blocked_loop_shows_at_least_the_time_it_was_blocked() -> None:
    lag_s, count = sample(SUM), sample(COUNT)
    watcher = asyncio.create_task(watch_event_loop(interval_s=0.001))
    await asyncio.sleep(0)  # the watcher now waits for its first wake-up
    time.sleep(0.05)
    async with asyncio.timeout(10):
        while sample(COUNT) == count:
            await asyncio.sleep(0)
    watcher.cancel()
    # Its wake-up was due 1 ms into the 50 ms; the last digits are the clock's.
    assert sample(SUM) - lag_s >= 0.048

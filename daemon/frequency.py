"""Frequency caps: the ads that a user has seen often enough.

Owns the count of a user's exposures, by the caller's numbers or else by the user's own history, at
the request's own now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from stream.records import FrequencyCap, UserEvent


def capped(
    cap: FrequencyCap, events: Callable[[], Iterable[UserEvent]], now_ms: int
) -> NDArray[np.int64]:
    """[n] int64, the ads that have reached the cap, ascending.

    Args:
        cap: the request's.
        events: reads the user's history; asked only when the caller gives no counts.
        now_ms: the request's; what comes after it has not happened.
    """
    seen = _exposures(cap, events(), now_ms) if cap.seen is None else cap.seen
    return np.array(sorted(ad_id for ad_id, times in seen.items() if times >= cap.most), np.int64)


def _exposures(cap: FrequencyCap, events: Iterable[UserEvent], now_ms: int) -> Mapping[int, int]:
    after_ms = -1 if cap.window_ms is None else now_ms - cap.window_ms
    return Counter(
        event.ad_id
        for event in events
        if event.ad_id is not None
        and after_ms < event.time_ms <= now_ms
        and (cap.actions is None or event.action in cap.actions)
    )

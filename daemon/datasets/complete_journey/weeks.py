"""The data's calendar: week w begins on Monday 2016-12-26 + 7 (w - 1) days, 00:00 in New York."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

FIRST_WEEK, LAST_WEEK = 1, 53

_NEW_YORK = ZoneInfo("America/New_York")
_FIRST_MONDAY = datetime(2016, 12, 26, tzinfo=_NEW_YORK)


def week_start_ms(week: int) -> int:
    """Monday 00:00 in New York of a week, in epoch ms; weeks outside the data count on."""
    # An aware datetime moves by the wall clock, so a week across the change of time keeps Monday.
    return round((_FIRST_MONDAY + timedelta(weeks=week - 1)).timestamp() * 1000)


def week_of(time_ms: int) -> int:
    """The week that an epoch ms falls in."""
    day = datetime.fromtimestamp(time_ms / 1000, _NEW_YORK).date()
    return (day - _FIRST_MONDAY.date()).days // 7 + 1


@cache
def week_starts_ms() -> NDArray[np.int64]:
    """[LAST_WEEK + 2] int64: the start of each week by its number, the end of the last included."""
    return np.array([week_start_ms(week) for week in range(LAST_WEEK + 2)], np.int64)

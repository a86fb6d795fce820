"""Derived signals: the numbers that the MoA configuration draws from time and counts.

Owns the order of the R signal columns. Promises that training rows and live requests get them
from the same functions: rhythm of matches, popularity, and how busy the user was.
"""

from __future__ import annotations

import numpy as np

from .config import MoaConfig
from .matches import Events, Floats, HardMatcher, Ints, Prefixes, count_prefixes


def derive(
    matcher: HardMatcher,
    events: Events,
    prefixes: Prefixes,
    items: Ints,
    popularity: Floats,
    moa: MoaConfig,
) -> tuple[Ints, Floats]:
    """Match counts and derived signals of N (prefix, candidate) rows.

    Args:
        matcher: over ``events``, with the configuration's pairs.
        events: the histories.
        prefixes: N of them.
        items: [N, F] int64 raw ids.
        popularity: [N, popular fields x windows] float32.
        moa: names the windows of activity.

    Returns:
        [N, P] int64 uncapped counts, and [N, R] float32 signals: rhythm, popularity, activity.
    """
    matches = matcher.match(prefixes, items)
    activity = count_prefixes(events, prefixes, moa.activity_days)
    return matches.counts, np.concatenate([matches.rhythm, popularity, activity], 1)

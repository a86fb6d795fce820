"""Limits on how many ads of one group, such as an advertiser, an answer may hold."""

import numpy as np

from .arrays import Bool, Int32


def within_limit(groups: Int32, limit: int) -> Bool:
    """Which ads are among the first of their group.

    Args:
        groups: [n] int32, best ad first; a negative one knows no limit.
        limit: how many of a group may stay.

    Returns:
        [n] bool.
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return (places < limit) | (groups < 0)

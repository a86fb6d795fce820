"""A histogram that takes a whole batch of observations at once."""

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram


class BatchHistogram(Histogram):
    """A histogram for what comes by the thousand.

    One observation takes a search, two locks and two additions in Python, which is more work than
    to apply the ad that it is of.
    """

    def observe_all(self, amounts: NDArray[np.float64]) -> None:
        """Observe [n] amounts, as `observe` does one."""
        counts = np.bincount(np.searchsorted(self._upper_bounds, amounts))
        for place in np.flatnonzero(counts).tolist():
            self._buckets[place].inc(float(counts[place]))
        self._sum.inc(float(amounts.sum()))

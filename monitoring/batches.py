"""A histogram that takes a whole batch of observations at once."""

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """A histogram of one label, for what comes by the thousand; any thread may observe.

    The client's own takes an observation at a time, with a search, two locks and two additions in
    Python: more work than to apply the ad that it is of.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        values: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Declare and register it.

        Args:
            name: as exposed.
            documentation: for the scrape.
            label: its name.
            values: all that the label takes.
            buckets: upper bounds, rising; the infinite one is added.
            registry: whose scrape it is part of.
        """
        self.name = name
        self.documentation = documentation
        self.label = label
        self._bounds = np.array([*buckets, np.inf])
        self._shown_bounds = [*(str(float(bound)) for bound in buckets), "+Inf"]
        self._lock = Lock()
        self._counts = {value: np.zeros(len(self._bounds), np.int64) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        registry.register(self)

    def observe_all(self, value: str, amounts: NDArray[np.float64]) -> None:
        """Observe [n] amounts under a value of the label."""
        places = np.searchsorted(self._bounds, amounts)
        counts = np.bincount(places, minlength=len(self._bounds))
        with self._lock:
            self._counts[value] += counts
            self._sums[value] += float(amounts.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for at a scrape."""
        family = self._family()
        with self._lock:
            for value, counts in self._counts.items():
                upto = zip(self._shown_bounds, counts.cumsum().tolist(), strict=True)
                family.add_metric([value], list(upto), self._sums[value])
        yield family

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for once, to refuse a second metric of the name."""
        yield self._family()

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.documentation, labels=[self.label])

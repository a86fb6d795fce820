"""PromQL over Headwater's workers, built from a metric's name.

Owns how expressions are written: every one is limited to the chosen workers
(`$instance`), and rates follow the scrape interval of the chosen data source.
Which metrics are asked for is `panels`' choice.
"""

from dataclasses import dataclass
from typing import Final

_WORKERS: Final = 'instance=~"$instance"'
# Its name in `prometheus.yml`.
_JOB: Final = 'job="headwater"'
_WINDOW: Final = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expression: str
    legend: str


def gauge(metric: str, legend: str, by: str = "", how: str = "sum") -> Query:
    """The value now, aggregated over all labels but those in `by`."""
    return Query(f"{_aggregate(how, by)} ({_series(metric)})", legend)


def rate(metric: str, legend: str, by: str = "") -> Query:
    """A counter's increase a second, summed over all labels but those in `by`."""
    return Query(f"{_aggregate('sum', by)} ({_increase(metric)})", legend)


def rises(metric: str, legend: str, by: str = "") -> Query:
    """How often a rare event came lately, summed over all labels but those in `by`; not 0."""
    increase = f"increase({_series(metric)}{_WINDOW})"
    return Query(f"{_aggregate('sum', by)} ({increase}) > 0", legend)


def slope(metric: str, legend: str) -> Query:
    """A gauge's increase a second, summed over the workers."""
    return Query(f"sum (deriv({_series(metric)}{_WINDOW}))", legend)


def mean(histogram: str, legend: str) -> Query:
    """The mean of a histogram's recent observations."""
    total, number = _increase(f"{histogram}_sum"), _increase(f"{histogram}_count")
    return Query(f"sum ({total}) / sum ({number})", legend)


def readiness(metric: str, legend: str) -> Query:
    """A worker's 0 or 1; 0 too for one that is expected and cannot be scraped, so has no gauge."""
    here, expected = _series(metric), _series("up", _JOB)
    return Query(
        f"max by (instance) ({here}) or 0 * max by (instance) ({expected})",
        legend,
    )


def age(timestamp: str, legend: str, by: str) -> Query:
    """Seconds since a Unix time; no series while it is still 0."""
    return Query(f"time() - {_aggregate('max', by)} ({_series(timestamp)} > 0)", legend)


def quantile(q: float, histogram: str, legend: str, by: str = "", matchers: str = "") -> Query:
    """The q-quantile of a histogram's recent observations, one for each value of `by`."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) ({_increase(f'{histogram}_bucket', matchers)})"
    return Query(f"histogram_quantile({q:g}, {buckets})", legend)


def quantiles(histogram: str, matchers: str = "") -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram's recent observations."""
    return tuple(
        quantile(q, histogram, f"p{q * 100:g}", matchers=matchers) for q in (0.5, 0.95, 0.99)
    )


def _series(metric: str, matchers: str = "") -> str:
    return f"{metric}{{{', '.join(filter(None, (_WORKERS, matchers)))}}}"


def _increase(metric: str, matchers: str = "") -> str:
    return f"rate({_series(metric, matchers)}{_WINDOW})"


def _aggregate(how: str, by: str) -> str:
    return f"{how} by ({by})" if by else how

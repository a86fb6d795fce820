"""A counter is there before what it counts first happens."""

from prometheus_client import Counter

from daemon import counters
from monitoring import metrics
from stream.errors import Reason


def test_every_counter_has_its_series_before_the_first_event() -> None:
    """Born at 1, it would hide its first event from `rate()` and `increase()`."""
    counters.begin()
    unborn = {
        name
        for name, metric in vars(metrics).items()
        if isinstance(metric, Counter) and not any(family.samples for family in metric.collect())
    }
    assert unborn == set()


def test_every_reason_of_every_topic_with_dead_letters_has_its_series() -> None:
    counters.begin()
    (family,) = metrics.RECORDS_REJECTED.collect()
    there = {(s.labels["topic"], s.labels["reason"]) for s in family.samples}
    assert {("user-events", reason.value) for reason in Reason} <= there

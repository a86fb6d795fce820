"""A worker is ready only while everything holds, and says what does not."""

from collections.abc import Callable

import pytest

from monitoring.health import Readiness
from monitoring.metrics import REGISTRY


def started(*conditions: str) -> Readiness:
    readiness = Readiness(conditions)
    readiness.mark_started()
    return readiness


def test_every_condition_starts_unmet() -> None:
    readiness = started("index_caught_up", "models_warm")
    assert not readiness.ready
    assert list(readiness.reasons()) == ["index_caught_up", "models_warm"]


def test_ready_needs_every_condition() -> None:
    readiness = started("index_caught_up", "models_warm")
    readiness.meet("index_caught_up")
    assert not readiness.ready
    readiness.meet("models_warm")
    assert readiness.ready
    assert readiness.reasons() == {}


def test_ready_needs_the_start() -> None:
    readiness = Readiness(())
    assert not readiness.ready
    assert readiness.reasons() == {"started": "warming up"}
    readiness.mark_started()
    assert readiness.ready


def test_a_lost_condition_turns_readiness_off_with_its_reason() -> None:
    readiness = started("kafka_reachable")
    readiness.meet("kafka_reachable")
    readiness.unmeet("kafka_reachable", "position stands still at lag 12")
    assert not readiness.ready
    assert readiness.reasons() == {"kafka_reachable": "position stands still at lag 12"}


def test_only_a_change_of_readiness_is_told() -> None:
    """The log says when requests are taken, not when the group was joined."""
    told: list[bool] = []
    readiness = Readiness(("kafka", "requests"), told.append)
    readiness.meet("kafka")
    readiness.mark_started()
    assert told == []
    readiness.meet("requests")
    readiness.meet("requests")
    assert told == [True]
    readiness.unmeet("kafka", "silence")
    readiness.unmeet("kafka", "more silence")
    assert told == [True, False]
    readiness.meet("kafka")
    readiness.mark_stopping()
    assert told == [True, False, True, False]


def test_a_worker_that_stops_is_not_ready_and_answers_what_still_comes() -> None:
    readiness = started()
    readiness.mark_stopping()
    assert not readiness.ready
    assert readiness.serving
    assert readiness.failure is None
    assert readiness.reasons() == {"stopping": "the worker ends"}


def test_a_failed_worker_is_not_ready_and_keeps_its_first_reason() -> None:
    readiness = started()
    readiness.mark_failed("intake thread died")
    readiness.mark_failed("queue full")
    assert not readiness.ready
    assert readiness.failure == "intake thread died"
    assert readiness.reasons() == {"alive": "intake thread died"}


@pytest.mark.parametrize("report", [Readiness.meet, lambda r, c: r.unmeet(c, "because")])
def test_an_undeclared_condition_is_an_error(report: Callable[[Readiness, str], None]) -> None:
    """A misspelt name would otherwise leave the worker unready for ever."""
    with pytest.raises(KeyError, match="index_cuaght_up"):
        report(started("index_caught_up"), "index_cuaght_up")


def test_the_gauge_follows_readiness() -> None:
    readiness = started("index_caught_up")
    assert REGISTRY.get_sample_value("headwater_ready") == 0
    readiness.meet("index_caught_up")
    assert REGISTRY.get_sample_value("headwater_ready") == 1

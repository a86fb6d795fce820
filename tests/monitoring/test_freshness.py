"""Lag is told at the scrape, from what the reader has reported."""

import threading
from collections.abc import Iterator

import pytest

from monitoring.freshness import LagTracker
from monitoring.metrics import REGISTRY

TOPIC = "test-ads"


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000.0

    def __call__(self) -> float:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> Iterator[LagTracker]:
    tracker = LagTracker(clock)
    yield tracker
    for partition in tracker.lag(TOPIC):
        tracker.forget(TOPIC, partition)


def scraped(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": TOPIC, **labels})


def test_a_partition_stands_from_the_last_record_applied_or_the_first_one_noticed() -> None:
    """Whatever the wall clock does meanwhile."""
    now_s = 100.0
    tracker = LagTracker(clock_ms=lambda: 0.0, clock_s=lambda: now_s)
    tracker.note_applied(TOPIC, 0, next_offset=5, record_ms=None)
    tracker.note_fetched(TOPIC, 0, end_offset=5)
    now_s += 60
    assert tracker.standing_s(TOPIC) == 0
    tracker.note_end(TOPIC, 0, end_offset=9)
    now_s += 3
    tracker.note_end(TOPIC, 0, end_offset=12)
    assert tracker.standing_s(TOPIC) == 3
    tracker.note_applied(TOPIC, 0, next_offset=6, record_ms=None)
    assert tracker.standing_s(TOPIC) == 0
    now_s += 2
    tracker.note_applied(TOPIC, 0, next_offset=6, record_ms=None)
    assert tracker.standing_s(TOPIC) == 2
    tracker.note_applied(TOPIC, 0, next_offset=12, record_ms=None)
    now_s += 60
    assert tracker.standing_s(TOPIC) == 0
    tracker.forget(TOPIC, 0)


def test_the_end_of_a_partition_that_is_not_read_is_ignored(tracker: LagTracker) -> None:
    tracker.note_end(TOPIC, 3, end_offset=9)
    assert tracker.lag(TOPIC) == {}


def test_nothing_pending_is_age_zero(tracker: LagTracker, clock: Clock) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=5)
    tracker.note_applied(TOPIC, 0, next_offset=5, record_ms=clock.now_ms - 9_000)
    clock.now_ms += 60_000
    assert scraped("headwater_oldest_unapplied_seconds") == 0
    assert scraped("headwater_offset_lag", partition="0") == 0


def test_age_rises_between_scrapes_while_nothing_is_reported(
    tracker: LagTracker, clock: Clock
) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=5, oldest_ms=clock.now_ms - 500)
    assert scraped("headwater_oldest_unapplied_seconds") == pytest.approx(0.5)
    clock.now_ms += 2_000
    assert scraped("headwater_oldest_unapplied_seconds") == pytest.approx(2.5)
    assert scraped("headwater_offset_lag", partition="0") == 5


def test_age_rises_though_the_end_is_confirmed_again_and_again(
    tracker: LagTracker, clock: Clock
) -> None:
    """A stuck applier does not stop the fetches that report the end."""
    for _ in range(3):
        tracker.note_fetched(TOPIC, 0, end_offset=5)
        clock.now_ms += 1_000
    assert scraped("headwater_oldest_unapplied_seconds") == pytest.approx(3.0)


def test_a_record_after_a_quiet_hour_is_not_an_hour_old(tracker: LagTracker, clock: Clock) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=5)
    tracker.note_applied(TOPIC, 0, next_offset=5, record_ms=clock.now_ms)
    clock.now_ms += 3_600_000
    tracker.note_fetched(TOPIC, 0, end_offset=5)  # still quiet
    clock.now_ms += 100
    tracker.note_fetched(TOPIC, 0, end_offset=6)
    assert scraped("headwater_oldest_unapplied_seconds") == pytest.approx(0.1)


def test_catching_up_shows_the_age_of_what_is_being_applied(
    tracker: LagTracker, clock: Clock
) -> None:
    """After a restart the pending records are old, however new the process is."""
    tracker.note_applied(TOPIC, 0, next_offset=100, record_ms=None)
    tracker.note_fetched(TOPIC, 0, end_offset=1_000)
    assert scraped("headwater_oldest_unapplied_seconds") == 0
    tracker.note_applied(TOPIC, 0, next_offset=400, record_ms=clock.now_ms - 30_000)
    assert scraped("headwater_oldest_unapplied_seconds") == pytest.approx(30.0)
    assert scraped("headwater_offset_lag", partition="0") == 600


def test_a_restored_position_is_no_lag_before_the_end_is_known(tracker: LagTracker) -> None:
    tracker.note_applied(TOPIC, 3, next_offset=100, record_ms=None)
    assert tracker.lag(TOPIC) == {3: 0}


def test_the_topic_is_as_old_as_its_oldest_partition(tracker: LagTracker, clock: Clock) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=1, oldest_ms=clock.now_ms - 100)
    tracker.note_fetched(TOPIC, 1, end_offset=1, oldest_ms=clock.now_ms - 7_000)
    assert tracker.oldest_unapplied_s(TOPIC) == pytest.approx(7.0)
    tracker.note_applied(TOPIC, 1, next_offset=1, record_ms=clock.now_ms - 7_000)
    assert tracker.oldest_unapplied_s(TOPIC) == pytest.approx(0.1)


def test_a_producer_with_a_fast_clock_gives_no_negative_age(
    tracker: LagTracker, clock: Clock
) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=1, oldest_ms=clock.now_ms + 5_000)
    assert tracker.oldest_unapplied_s(TOPIC) == 0


def test_positions_reported_late_do_not_move_backwards(tracker: LagTracker, clock: Clock) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=10)
    tracker.note_applied(TOPIC, 0, next_offset=10, record_ms=clock.now_ms)
    tracker.note_applied(TOPIC, 0, next_offset=4, record_ms=clock.now_ms - 50)
    tracker.note_fetched(TOPIC, 0, end_offset=7)
    assert tracker.lag(TOPIC) == {0: 0}


def test_a_forgotten_partition_leaves_the_scrape(tracker: LagTracker) -> None:
    tracker.note_fetched(TOPIC, 0, end_offset=10)
    tracker.forget(TOPIC, 0)
    tracker.forget(TOPIC, 0)  # a second revocation changes nothing
    assert scraped("headwater_offset_lag", partition="0") is None
    assert scraped("headwater_oldest_unapplied_seconds") is None
    assert tracker.lag(TOPIC) == {}


def test_threads_may_report_while_others_scrape(clock: Clock) -> None:
    tracker = LagTracker(clock)
    failures: list[BaseException] = []

    def report(partition: int) -> None:
        try:
            for offset in range(300):
                tracker.note_fetched(TOPIC, partition, end_offset=offset + 1)
                tracker.note_applied(TOPIC, partition, offset + 1, clock.now_ms)
            tracker.forget(TOPIC, partition)
        except BaseException as error:  # an assertion in a thread must reach the test
            failures.append(error)

    threads = [threading.Thread(target=report, args=(p,)) for p in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert scraped("headwater_oldest_unapplied_seconds") in (None, 0.0)
    for thread in threads:
        thread.join()
    assert failures == []
    assert tracker.lag(TOPIC) == {}

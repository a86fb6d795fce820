"""Histories in memory: within their budget, never stale, never of somebody who was erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.clock import ReplayClock
from daemon.histories import DAY_MS, HOUR_MS, EncodedHistories, Expiry
from model.features import Encoder
from model.schema import Schema
from monitoring.metrics import REGISTRY
from stream.codec import encode_id
from stream.histories import HistoryStore
from stream.placement import partition_of
from stream.records import ERASE, EventRecord, UserEvent
from stream.topics import USER_PARTITIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    store = HistoryStore.open(tmp_path, 100)
    yield store
    store.close()


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(Schema(("product",), ("age",), ("store",), ("buy",)))


def apply(store: HistoryStore, user_id: int, time_ms: int, action: str = "buy") -> None:
    partition = partition_of(encode_id(user_id), USER_PARTITIONS)
    event = UserEvent(f"e{time_ms}", None, action, time_ms)
    store.apply([EventRecord(user_id, event, partition, time_ms)], {partition: time_ms + 1})


def reads(outcome: str) -> float:
    value = REGISTRY.get_sample_value("headwater_history_reads_total", {"outcome": outcome})
    return value or 0.0


def test_a_history_is_read_from_disk_once_until_it_changes(
    store: HistoryStore, encoder: Encoder
) -> None:
    histories = EncodedHistories(store, encoder, 1 << 20)
    apply(store, 1, 10)
    before = reads("hit"), reads("miss")
    assert [len(histories.read(1)) for _ in range(3)] == [1, 1, 1]
    assert (reads("hit"), reads("miss")) == (before[0] + 2, before[1] + 1)
    apply(store, 1, 20)
    assert histories.read(1).time_ms.tolist() == [10, 20]
    assert histories.read(1, after_ms=10).time_ms.tolist() == [20]
    assert len(histories.read(1, after_ms=20)) == 0


def test_memory_stays_within_its_budget_and_drops_the_least_recently_read(
    store: HistoryStore, encoder: Encoder
) -> None:
    for user_id in range(20):
        apply(store, user_id, 10)
    measured = EncodedHistories(store, encoder, 1 << 30)
    measured.read(0)
    histories = EncodedHistories(store, encoder, 5 * measured.size_bytes)
    for user_id in range(20):
        histories.read(user_id)
        histories.read(0)
        assert 0 < histories.size_bytes <= 5 * measured.size_bytes
    before = reads("hit")
    histories.read(0)
    assert reads("hit") == before + 1
    assert EncodedHistories(store, encoder, 0).read(3).time_ms.tolist() == [10]


def test_nothing_of_an_erased_user_stays_in_memory(store: HistoryStore, encoder: Encoder) -> None:
    histories = EncodedHistories(store, encoder, 1 << 20)
    apply(store, 1, 10)
    apply(store, 2, 10)
    histories.read(2)
    alone = histories.size_bytes
    histories.read(1)
    apply(store, 1, 20, ERASE)
    histories.forget_changed()
    assert histories.size_bytes == alone
    assert len(histories.read(1)) == 0
    assert len(histories.read(2)) == 1


def test_expiry_follows_the_clock_and_no_requests_now_goes_behind_it() -> None:
    clock = ReplayClock(10 * DAY_MS)
    assert Expiry(clock, 0).before_ms(99 * DAY_MS) == -1
    expiry = Expiry(clock, 3)
    assert expiry.before_ms() == 7 * DAY_MS
    assert expiry.before_ms(12 * DAY_MS) == 9 * DAY_MS
    assert expiry.before_ms(1 * DAY_MS) == 7 * DAY_MS
    assert expiry.deletable_ms() == 7 * DAY_MS
    clock.advance(10 * DAY_MS + HOUR_MS - 1)
    assert expiry.deletable_ms() == 7 * DAY_MS
    clock.advance(10 * DAY_MS + HOUR_MS)
    assert expiry.deletable_ms() == 7 * DAY_MS + HOUR_MS

"""Histories: bounded, ordered, deduplicated, and written together with their offsets."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.histories import HistoryStore
from stream.history_rows import HistoriesUnavailable
from stream.records import EventRecord, UserEvent

W = 4

# Applies batch after batch of one event for user 7, and says so after each; never ends by itself.
WRITER = """
import sys
from itertools import count
from pathlib import Path
from stream.histories import HistoryStore
from stream.records import EventRecord, UserEvent

store = HistoryStore.open(Path(sys.argv[1]), 100_000)
for n in count(1):
    event = UserEvent(str(n), None, "buy", n)
    store.apply([EventRecord(7, event, 0, n)], {0: n})
    print(n, flush=True)
"""


def event(event_id: str, time_ms: int, value: float = 0.0) -> UserEvent:
    return UserEvent(event_id, 5, "buy", time_ms, value, {"brand": ("a", "b"), "type": ("c",)})


def record(user_id: int, event_id: str, time_ms: int, value: float = 0.0) -> EventRecord:
    return EventRecord(user_id, event(event_id, time_ms, value), 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    store = HistoryStore.open(tmp_path, W)
    yield store
    store.close()


def ids(store: HistoryStore, user_id: int) -> list[str]:
    return [event.event_id for event in store.read(user_id)]


def test_history_is_what_was_applied_oldest_first(store: HistoryStore) -> None:
    store.apply([record(1, "b", 20), record(2, "x", 1), record(1, "a", 10)], {0: 3})

    assert store.read(1) == [event("a", 10), event("b", 20)]
    assert store.read(2) == [event("x", 1)]
    assert store.users() == 2


def test_unknown_user_has_an_empty_history_and_is_not_counted(store: HistoryStore) -> None:
    assert store.read(99) == []
    assert store.change_count(99) == 0
    assert store.users() == 0


def test_only_the_newest_events_are_kept(store: HistoryStore) -> None:
    for n in range(50):
        store.apply([record(1, f"e{n}", n)], {0: n + 1})
        assert ids(store, 1) == [f"e{m}" for m in range(max(0, n + 1 - W), n + 1)]


def test_events_beyond_the_bound_leave_the_disk(tmp_path: Path) -> None:
    store = HistoryStore.open(tmp_path, W)
    store.apply([record(1, f"e{n}", n) for n in range(1_000)], {0: 1_000})
    store.close()

    wider = HistoryStore.open(tmp_path, 1_000)
    assert ids(wider, 1) == ["e996", "e997", "e998", "e999"]
    wider.close()


def test_late_event_takes_its_place_in_time(store: HistoryStore) -> None:
    store.apply([record(1, "a", 10), record(1, "c", 30)], {})
    store.apply([record(1, "b", 20)], {})

    assert ids(store, 1) == ["a", "b", "c"]


def test_event_older_than_a_full_history_does_not_enter_it(store: HistoryStore) -> None:
    store.apply([record(1, f"e{n}", 100 + n) for n in range(W)], {})
    store.apply([record(1, "too late", 1)], {})

    assert ids(store, 1) == ["e0", "e1", "e2", "e3"]


def test_equal_times_are_ordered_by_event_id(store: HistoryStore) -> None:
    store.apply([record(1, "b", 5), record(1, "a", 5), record(1, "c", 5)], {})

    assert ids(store, 1) == ["a", "b", "c"]


def test_applying_records_again_changes_nothing(store: HistoryStore) -> None:
    records = [record(1, f"e{n}", n) for n in range(3)]
    for _ in range(20):  # far beyond the bound, were they counted
        store.apply(records, {0: 3})

    assert store.read(1) == [event(f"e{n}", n) for n in range(3)]


def test_event_id_with_a_new_time_moves_instead_of_doubling(store: HistoryStore) -> None:
    store.apply([record(1, "a", 10), record(1, "b", 20)], {})
    store.apply([record(1, "a", 30)], {})

    assert store.read(1) == [event("b", 20), event("a", 30)]


@pytest.mark.parametrize("user_id", [0, 255, 256, 2**63 - 1])
def test_users_with_neighbouring_ids_do_not_mix(user_id: int, store: HistoryStore) -> None:
    others = {max(0, user_id - 1), min(2**63 - 1, user_id + 1)} - {user_id}
    store.apply([record(other, "other", 0) for other in others], {})
    store.apply([record(user_id, "own", 253_402_300_799_999)], {})

    assert ids(store, user_id) == ["own"]


def test_change_count_moves_for_the_users_of_a_write_only(store: HistoryStore) -> None:
    store.apply([record(1, "a", 1), record(2, "b", 1)], {})
    before = store.change_count(1), store.change_count(2)
    store.apply([record(1, "c", 2)], {})

    assert store.change_count(1) != before[0]
    assert store.change_count(2) == before[1]


def test_offsets_and_histories_survive_reopening(tmp_path: Path) -> None:
    store = HistoryStore.open(tmp_path, W)
    store.apply([record(1, "a", 1)], {0: 10, 7: 3})
    store.apply([], {0: 12})
    store.close()

    reopened = HistoryStore.open(tmp_path, W)
    assert reopened.next_offsets() == {0: 12, 7: 3}
    assert ids(reopened, 1) == ["a"]
    assert reopened.users() == 1
    reopened.close()


def test_smaller_bound_after_reopening_holds_at_once(tmp_path: Path) -> None:
    store = HistoryStore.open(tmp_path, 100)
    store.apply([record(1, f"e{n}", n) for n in range(100)], {0: 100})
    store.close()

    narrower = HistoryStore.open(tmp_path, 2)
    assert ids(narrower, 1) == ["e98", "e99"]
    narrower.close()


def test_folder_that_is_open_elsewhere_is_refused(store: HistoryStore, tmp_path: Path) -> None:
    with pytest.raises(HistoriesUnavailable, match=str(tmp_path)):
        HistoryStore.open(tmp_path, W)


def test_killed_writer_leaves_events_and_offset_in_step(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as writer:
        assert writer.stdout is not None
        said = (line.strip() for line in writer.stdout)
        done = next(int(line) for line in said if line.isdigit() and int(line) >= 300)
        os.kill(writer.pid, signal.SIGKILL)

    store = HistoryStore.open(tmp_path, 100_000)
    offset = store.next_offsets()[0]
    assert offset >= done
    assert ids(store, 7) == [str(n) for n in range(1, offset + 1)]
    store.close()


def test_reader_beside_a_writer_sees_whole_batches_in_order(tmp_path: Path) -> None:
    store = HistoryStore.open(tmp_path, 64)
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not stop.is_set():
            count = store.change_count(1)
            events = store.read(1)
            times = [event.time_ms for event in events]
            # Batch n is events 10n .. 10n + 9, and count n means that n batches are in.
            if times != list(range(times[0], times[-1] + 1)) if times else count > 0:
                failures.append(f"gap: {times}")
            if times and (times[-1] + 1 < 10 * count or (times[-1] + 1) % 10):
                failures.append(f"count {count}, last {times[-1]}")

    reader = threading.Thread(target=read)
    reader.start()
    for batch in range(400):
        events = [record(1, f"{n:05}", n) for n in range(10 * batch, 10 * batch + 10)]
        store.apply(events, {0: 10 * batch + 10})
    stop.set()
    reader.join()
    store.close()
    assert failures == []


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 20)), max_size=8),
        max_size=12,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_order_of_events_reads_as_the_newest_by_time(
    batches: list[list[tuple[int, int, int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Event ids are unique here, as their time is part of them; repeated ones are redeliveries."""
    store = HistoryStore.open(tmp_path_factory.mktemp("histories"), W)
    seen: dict[int, set[tuple[int, str]]] = {}
    for n, batch in enumerate(batches):
        store.apply([record(u, f"{e}-{t}", t) for u, e, t in batch], {0: n})
        for user_id, e, t in batch:
            seen.setdefault(user_id, set()).add((t, f"{e}-{t}"))
        for user_id, events in seen.items():
            newest = sorted(events, key=lambda event: (-event[0], event[1]))[:W]
            expected = [event_id for _, event_id in sorted(newest)]
            assert ids(store, user_id) == expected
    assert store.users() == len(seen)
    store.close()

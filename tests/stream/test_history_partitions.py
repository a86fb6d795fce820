"""Histories by partition: erased, expired, handed over, dropped, and of one topic only."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rocksdict import DbClosedError

from stream.checkpoints import Checkpoint, join, read_checkpoint, write_checkpoint
from stream.codec import encode_id
from stream.histories import AppliedEvents, HistoryStore
from stream.placement import partition_of
from stream.records import ERASE, EventRecord, UserEvent
from stream.topics import USER_PARTITIONS

W = 8
USER = 1364
HOME = partition_of(encode_id(USER), USER_PARTITIONS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    store = HistoryStore.open(tmp_path / "own", W, "topic")
    yield store
    with suppress(DbClosedError):  # some tests open the folder again
        store.close()


def record(
    offset: int, event_id: str = "", action: str = "buy", user_id: int = USER, partition: int = HOME
) -> EventRecord:
    """An event at the time that its offset says."""
    event = UserEvent(event_id or f"e{offset}", None, action, offset)
    return EventRecord(user_id, event, partition, offset)


def ids(store: HistoryStore, user_id: int = USER, after_ms: int = -1) -> list[str]:
    return [event.event_id for event in store.read(user_id, after_ms)]


def checkpoints(
    store: HistoryStore, user_id: int = USER, number: int = HOME
) -> list[tuple[int, int, Checkpoint]]:
    """The user's checkpoint, by way of bytes."""
    written = store.checkpoint(number, user_id)
    return [read_checkpoint(key, value) for key, value in written if value is not None]


def hand_over(source: HistoryStore, target: HistoryStore, number: int = HOME) -> None:
    """What a take-over does: every changed user's checkpoint, by way of bytes."""
    users, next_offset = source.take_changed(number)
    for user_id in users:
        parts = checkpoints(source, user_id, number)
        target.load(number, [(user, checkpoint) for user, _, checkpoint in parts])
    target.begin(number, next_offset)


def test_an_erased_user_has_nothing_of_before_and_all_of_after(store: HistoryStore) -> None:
    before = [record(n) for n in range(W + 3)]
    store.apply(before, {HOME: W + 3})
    count = store.change_count(USER)
    applied = store.apply([record(20), record(21, action=ERASE), record(22)], {HOME: 23})

    assert applied == AppliedEvents(applied=1, skipped=0, erased=1, misplaced=0)
    assert ids(store) == ["e22"]
    assert store.change_count(USER) != count


def test_an_erasure_that_only_half_of_a_checkpoint_knows_of_is_carried_out(
    store: HistoryStore,
) -> None:
    """It is made while events are applied, and its writer may die before the next one."""
    old = [UserEvent(f"e{n}", None, "buy", n) for n in range(2)]
    (written,) = write_checkpoint(USER, "topic", 2, old, erased_before=2)
    user_id, _, checkpoint = read_checkpoint(*written)
    store.load(HOME, [(user_id, checkpoint)])
    store.begin(HOME, 2)
    store.apply([record(2, action=ERASE), record(3)], {HOME: 4})
    assert ids(store) == ["e3"]


def test_nothing_of_before_an_erasure_comes_back_when_it_is_applied_again(
    store: HistoryStore, tmp_path: Path
) -> None:
    everything = [record(0), record(1), record(2, action=ERASE), record(3)]
    store.apply(everything, {HOME: 4})
    assert store.apply(everything, {HOME: 4}).skipped == 2
    assert ids(store) == ["e3"]
    store.close()

    again = HistoryStore.open(tmp_path / "own", W, "topic")
    again.apply([record(1)], {HOME: 4})
    assert ids(again) == ["e3"]
    other = HistoryStore.open(tmp_path / "other", W, "topic")
    hand_over(again, other)
    other.apply([record(0), record(1)], {HOME: 4})
    assert ids(other) == ["e3"]
    again.close()
    other.close()


def test_the_checkpoint_of_an_erased_user_says_so_and_keeps_saying_so(store: HistoryStore) -> None:
    store.apply([record(0), record(1, action=ERASE)], {HOME: 2})
    users, _ = store.take_changed(HOME)
    assert users == [USER]
    ((_, _, marker),) = checkpoints(store)
    assert (marker.erased_before, len(marker.events)) == (1, 1)

    store.apply([record(2)], {HOME: 3})
    ((_, _, later),) = checkpoints(store)
    assert later.erased_before == 1


def test_the_parts_of_an_erased_users_long_history_are_withdrawn_from_the_topic(
    store: HistoryStore, tmp_path: Path
) -> None:
    """Compaction would keep them for ever, since no other record has their keys."""
    long = [record(n, action="x" * 400_000) for n in range(3)]
    store.apply(long, {HOME: 3})
    keys = [key for key, _ in store.checkpoint(HOME, USER)]
    assert len(keys) > 1
    store.apply([record(3, action=ERASE)], {HOME: 4})
    assert withdrawn(store) == keys[1:]
    store.close()

    again = HistoryStore.open(tmp_path / "own", W, "topic")
    assert withdrawn(again) == keys[1:]
    again.close()
    # Who takes over has them from the topic.
    other = HistoryStore.open(tmp_path / "other", W, "topic")
    other.note_parts(HOME, {USER: len(keys)})
    other.begin(HOME, 4)
    assert withdrawn(other) == keys[1:]
    other.close()


def withdrawn(store: HistoryStore) -> list[bytes]:
    return [key for key, value in store.checkpoint(HOME, USER) if value is None]


@pytest.mark.parametrize("departure", ["erased", "dropped"])
def test_what_is_gone_is_in_no_file_of_the_folder(tmp_path: Path, departure: str) -> None:
    secret = "purchase-of-a-secret"
    store = HistoryStore.open(tmp_path, W, "topic")
    for n in range(3 * W):
        store.apply([record(n, f"{secret}-{n}")], {HOME: n + 1})
    store.apply([record(99, "of another", user_id=USER + 1)], {HOME: 100})

    def files_with_it() -> list[str]:
        files = (path for path in tmp_path.iterdir() if path.is_file())
        return [path.name for path in files if secret.encode() in path.read_bytes()]

    assert files_with_it()
    if departure == "erased":
        store.apply([record(100, action=ERASE)], {HOME: 101})
        assert ids(store, USER + 1) == ["of another"]
    else:
        store.drop(HOME)
        assert store.read(USER) == store.read(USER + 1) == []
    store.close()
    # What is left to scrub is known after a restart too.
    store = HistoryStore.open(tmp_path, W, "topic")
    store.scrub()
    store.close()
    assert files_with_it() == []


def test_a_history_that_was_handed_over_reads_the_same_and_goes_on(
    store: HistoryStore, tmp_path: Path
) -> None:
    store.apply([record(n) for n in range(0, 40, 2)], {HOME: 40})
    other = HistoryStore.open(tmp_path / "other", W, "topic")
    hand_over(store, other)
    assert other.read(USER) == store.read(USER)
    assert other.next_offsets() == {HOME: 40}

    for each in (store, other):
        each.apply([record(37), record(40), record(41)], {HOME: 42})
    assert other.read(USER) == store.read(USER)
    assert ids(other)[-2:] == ["e40", "e41"]
    assert other.take_changed(HOME) == ([USER], 42)
    other.close()


def test_a_history_too_long_for_one_record_is_handed_over_in_parts(tmp_path: Path) -> None:
    source = HistoryStore.open(tmp_path / "source", 100, "topic")
    target = HistoryStore.open(tmp_path / "target", 100, "topic")
    long = {"text": ("x" * 40_000,)}
    source.apply(
        [
            EventRecord(USER, UserEvent(f"e{n}", None, "buy", n, 0.0, long), HOME, n)
            for n in range(50)
        ],
        {HOME: 50},
    )
    written = source.checkpoint(HOME, USER)
    assert len(written) > 1
    assert max(len(value) for _, value in written) < 1 << 20
    parts = [read_checkpoint(*each) for each in written]
    assert [part for _, part, _ in parts] == list(range(len(written)))

    target.load(HOME, [(USER, join(part for _, _, part in parts))])
    target.begin(HOME, 50)
    assert target.read(USER) == source.read(USER)
    source.close()
    target.close()


def test_only_users_that_changed_are_told_and_again_after_a_restart_if_not_written(
    store: HistoryStore, tmp_path: Path
) -> None:
    store.apply([record(0), record(1, user_id=2)], {HOME: 2})
    assert store.take_changed(HOME) == ([2, USER], 2)
    assert store.take_changed(HOME) == ([], 2)
    store.note_checkpointed(HOME, 2)
    store.apply([record(2, user_id=2)], {HOME: 3})
    store.close()

    again = HistoryStore.open(tmp_path / "own", W, "topic")
    assert again.take_changed(HOME) == ([2], 3)
    again.return_changed(HOME, [2])
    assert again.take_changed(HOME) == ([2], 3)
    again.close()


def test_expired_events_are_not_read_and_then_not_there(store: HistoryStore) -> None:
    store.apply([record(n) for n in range(6)], {HOME: 6})
    store.apply([record(6, user_id=7)], {HOME: 7})
    store.take_changed(HOME)
    assert ids(store, after_ms=3) == ["e4", "e5"]

    assert store.expire(3, 10) == 0  # begins a round
    assert store.expire(3, 10) == 1
    assert ids(store) == ["e4", "e5"]
    assert store.take_changed(HOME)[0] == [USER]
    assert [store.expire(6, 10), store.expire(6, 10)] == [0, 2]
    assert store.users() == 0
    assert store.expire(6, 10) == 0


def test_a_folder_of_another_topic_is_emptied(store: HistoryStore, tmp_path: Path) -> None:
    store.apply([record(0), record(1, action=ERASE), record(2)], {HOME: 3})
    store.close()
    same = HistoryStore.open(tmp_path / "own", W, "topic")
    assert ids(same) == ["e2"]
    same.close()
    foreign = HistoryStore.open(tmp_path / "own", W, "the topic made anew")
    assert (foreign.users(), foreign.next_offsets()) == (0, {})
    foreign.apply([record(0)], {HOME: 1})
    assert ids(foreign) == ["e0"]
    foreign.close()


def test_a_load_that_was_cut_short_leaves_nothing_behind(
    store: HistoryStore, tmp_path: Path
) -> None:
    store.apply([record(0)], {HOME: 1})
    other = HistoryStore.open(tmp_path / "other", W, "topic")
    ((_, _, checkpoint),) = [read_checkpoint(*each) for each in store.checkpoint(HOME, USER)]
    other.load(HOME, [(USER, checkpoint)])
    other.close()
    again = HistoryStore.open(tmp_path / "other", W, "topic")
    assert (again.users(), again.read(USER), again.next_offsets()) == (0, [], {})
    again.close()


def test_a_key_on_the_wrong_partition_is_counted_and_still_read(store: HistoryStore) -> None:
    wrong = (HOME + 1) % USER_PARTITIONS
    applied = store.apply([record(0), record(1, partition=wrong)], {HOME: 1, wrong: 2})
    assert applied.misplaced == 1
    assert ids(store) == ["e0", "e1"]
    assert store.apply([record(2, partition=wrong)], {wrong: 3}).misplaced == 1

"""What a take-over makes of the records of `user-histories`."""

from __future__ import annotations

from typing import Any

from aiokafka.structs import ConsumerRecord

from daemon.ownership import Loading
from stream.checkpoints import Mark, Written, decode_events, write_checkpoint, write_mark
from stream.records import UserEvent

SOURCE = "cluster user-events id"
LONG = [UserEvent(f"e{n}", None, "x" * 400_000, n) for n in range(4)]
SHORT = [UserEvent("late", None, "buy", 9)]


def record(partition: int, written: Written) -> Any:
    key, value = written
    return ConsumerRecord("user-histories", partition, 0, 0, 0, key, value, None, 0, 0, ())


def test_the_last_mark_of_each_partition_counts_and_none_of_another_topic() -> None:
    loading = Loading(SOURCE)
    loading.sort([record(1, write_mark(Mark(SOURCE, 10))), record(2, write_mark(Mark(SOURCE, 5)))])
    loading.sort([record(1, write_mark(Mark(SOURCE, 20)))])
    loading.sort([record(3, write_mark(Mark("cluster user-events another-id", 99)))])
    assert loading.marks == {1: 20, 2: 5}


def test_a_mark_does_not_count_when_a_writer_of_another_topic_came_after_it() -> None:
    """A worker that has not noticed yet that the topic was created anew wrote over a history."""
    loading = Loading(SOURCE)
    of_another = "cluster user-events another-id"
    ours = [*write_checkpoint(7, SOURCE, 5, SHORT, None), write_mark(Mark(SOURCE, 5))]
    theirs = [*write_checkpoint(7, of_another, 2, [], None), write_mark(Mark(of_another, 2))]
    loading.sort([record(1, each) for each in (*ours, *theirs)])
    assert loading.marks == {}
    loading.sort([record(1, write_mark(Mark(SOURCE, 9)))])
    assert loading.marks == {1: 9}


def test_histories_of_another_topic_are_left_alone() -> None:
    foreign = write_checkpoint(7, "cluster user-events another-id", 5, SHORT, 3)
    loading = Loading(SOURCE)
    assert loading.sort([record(1, each) for each in foreign]) == {}
    assert loading.joined() == {}


def test_a_history_in_parts_is_joined_when_all_are_read() -> None:
    parts = write_checkpoint(7, SOURCE, 5, LONG, None)
    assert len(parts) > 1
    loading = Loading(SOURCE)
    for each in parts:
        assert loading.sort([record(1, each)]) == {}
    ((user_id, whole),) = loading.joined()[1]
    assert (user_id, decode_events(whole.events)) == (7, LONG)


def test_parts_that_a_shorter_history_left_behind_do_not_count() -> None:
    loading = Loading(SOURCE)
    loading.sort([record(1, each) for each in write_checkpoint(7, SOURCE, 5, LONG, None)])
    (again,) = write_checkpoint(7, SOURCE, 8, SHORT, None)
    ((user_id, whole),) = loading.sort([record(1, again)])[1]
    assert (user_id, decode_events(whole.events)) == (7, SHORT)
    assert loading.joined() == {}

    # Whose users they are is known, so that they can be withdrawn.
    assert loading.parts == {1: {7: len(write_checkpoint(7, SOURCE, 5, LONG, None))}}

    # Compaction may have taken the first part, and left the others.
    compacted = Loading(SOURCE)
    parts = write_checkpoint(7, SOURCE, 5, LONG, None)
    compacted.sort([record(1, again), *(record(1, each) for each in parts[1:])])
    assert compacted.joined() == {}

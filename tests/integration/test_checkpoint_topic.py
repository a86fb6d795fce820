"""Checkpoints on a real topic: whole or not at all, and one writer at a time."""

import pytest

from stream.checkpoint_topic import CheckpointWriter, Fenced, read_checkpoints
from stream.checkpoints import MARK_KEY, Mark, read_checkpoint, read_mark, write_checkpoint
from stream.records import UserEvent
from stream.settings import Kafka
from stream.topics import create_missing

HISTORY = [UserEvent("e", None, "buy", 1_000)]


async def marks_and_users(kafka: Kafka, partition: int) -> tuple[list[int], list[int]]:
    """Offsets of the marks and ids of the users that are committed, in order."""
    records = [r async for batch in read_checkpoints(kafka, [partition]) for r in batch]
    marks = [read_mark(r.value).next_offset for r in records if r.key == MARK_KEY]
    users = [read_checkpoint(r.key, r.value)[0] for r in records if r.key != MARK_KEY]
    return marks, users


async def test_a_worker_that_woke_up_late_cannot_overwrite_the_new_owners_checkpoints(
    kafka: Kafka,
) -> None:
    await create_missing(kafka)
    late, owner = CheckpointWriter(kafka, 3), CheckpointWriter(kafka, 3)
    try:
        await late.start()
        await late.write(write_checkpoint(1, "t", 10, HISTORY, None), Mark("t", 10))
        await owner.start()
        await owner.write(write_checkpoint(1, "t", 20, HISTORY, None), Mark("t", 20))
        for _ in range(2):
            with pytest.raises(Fenced, match="partition 3"):
                await late.write(write_checkpoint(1, "t", 12, HISTORY, None), Mark("t", 12))
        await owner.write(write_checkpoint(2, "t", 30, HISTORY, None), Mark("t", 30))
        assert await marks_and_users(kafka, 3) == ([10, 20, 30], [1, 1, 2])
        assert await marks_and_users(kafka, 4) == ([], [])
    finally:
        await late.stop()
        await owner.stop()

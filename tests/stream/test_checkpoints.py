"""Checkpoints: yesterday's are read today, and long ones are whole again."""

import base64

import pytest

from stream.checkpoints import (
    MARK_KEY,
    CheckpointUnreadable,
    Mark,
    decode_events,
    join,
    read_checkpoint,
    read_mark,
    write_checkpoint,
    write_mark,
)
from stream.records import UserEvent

HISTORY = [
    UserEvent("e1", None, "view", 5),
    UserEvent("e2", 17, "buy", 1_506_816_800_000, 3.99, {"product": ("1029743", "")}),
]
# Records as the first version wrote them; they never change.
CHECKPOINT = base64.b64decode(
    "haZzb3VyY2WvYyB1c2VyLWV2ZW50cyB0q25leHRfb2Zmc2V0zgACcWSmZXZlbnRzkoaoZXZlbnRfaWSiZTGlYWRf"
    "aWTApmFjdGlvbqR2aWV3p3RpbWVfbXMFpXZhbHVlywAAAAAAAAAAqGZlYXR1cmVzgIaoZXZlbnRfaWSiZTKlYWRf"
    "aWQRpmFjdGlvbqNidXmndGltZV9tc88AAAFe1Ue1AKV2YWx1ZctAD+uFHrhR7KhmZWF0dXJlc4GncHJvZHVjdJKn"
    "MTAyOTc0M6CtZXJhc2VkX2JlZm9yZcClcGFydHMB"
)
MARKER = base64.b64decode(
    "haZzb3VyY2WvYyB1c2VyLWV2ZW50cyB0q25leHRfb2Zmc2V0zgACcWSmZXZlbnRzkK1lcmFzZWRfYmVmb3JlzgAC"
    "bRilcGFydHMB"
)
MARK = base64.b64decode("gqZzb3VyY2WvYyB1c2VyLWV2ZW50cyB0q25leHRfb2Zmc2V0zgACcWQ=")


def test_yesterdays_records_are_read_today() -> None:
    user_id, part, checkpoint = read_checkpoint(b"1364", CHECKPOINT)
    assert (user_id, part, checkpoint.parts) == (1364, 0, 1)
    assert (checkpoint.source, checkpoint.next_offset) == ("c user-events t", 160_100)
    assert checkpoint.erased_before is None
    assert decode_events(checkpoint.events) == HISTORY
    _, _, marker = read_checkpoint(b"1364", MARKER)
    assert (marker.erased_before, decode_events(marker.events)) == (159_000, [])
    assert read_mark(MARK) == Mark("c user-events t", 160_100)


def test_what_is_written_today_is_read_today() -> None:
    ((key, value),) = write_checkpoint(1364, "s", 7, HISTORY, 3)
    user_id, part, checkpoint = read_checkpoint(key, value)
    assert (user_id, part, checkpoint.next_offset, checkpoint.erased_before) == (1364, 0, 7, 3)
    assert decode_events(checkpoint.events) == HISTORY
    key, value = write_mark(Mark("s", 7))
    assert (key, read_mark(value)) == (MARK_KEY, Mark("s", 7))


def test_a_long_history_is_whole_again_when_its_parts_are_joined() -> None:
    long = [UserEvent(f"e{n}", None, "x" * 100_000, n) for n in range(30)]
    written = write_checkpoint(5, "s", 7, long, 3)
    read = [read_checkpoint(key, value) for key, value in written]
    assert [key for key, _ in written][:3] == [b"5", b"5/1", b"5/2"]
    assert {(user_id, checkpoint.parts) for user_id, _, checkpoint in read} == {(5, len(written))}
    whole = join(checkpoint for _, _, checkpoint in read)
    assert decode_events(whole.events) == long
    assert (whole.parts, whole.next_offset, whole.erased_before) == (1, 7, 3)


@pytest.mark.parametrize("key", [b"x", b"01", b"5/x", b""])
def test_a_record_that_is_no_checkpoint_is_refused_with_its_key(key: bytes) -> None:
    with pytest.raises(CheckpointUnreadable, match="user-histories"):
        read_checkpoint(key, CHECKPOINT)
    with pytest.raises(CheckpointUnreadable):
        read_checkpoint(b"5", b"\xc1")

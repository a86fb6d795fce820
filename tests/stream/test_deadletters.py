"""A dead letter holds the original untouched, why it is dead, and where it came from."""

import pytest

from stream.codec import decode_control
from stream.deadletters import (
    CUT_HEADER,
    DETAIL_HEADER,
    MAX_VALUE_BYTES,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    TOPIC_HEADER,
    dead_letter,
    open_letter,
)
from stream.errors import MAX_DETAIL, Reason, Rejected
from stream.topics import MAX_DEAD_LETTER_BYTES, MAX_MESSAGE_BYTES


def test_a_dead_letter_keeps_the_original_and_says_why_and_where_from(record):
    raw, original = b"\xff not json", [("trace", b"\x00\xff"), ("trace", b"2")]
    message = record(b"\xfekey", raw, original, topic="shop-ads")
    letter = dead_letter(message, Reason.UNDECODABLE, "byte 0 is no JSON")
    assert letter == (
        "shop-ads.dlq",
        b"\xfekey",
        raw,
        [
            *original,
            ("__streams.errors.exception", b"undecodable"),
            ("__streams.errors.message", b"byte 0 is no JSON"),
            ("__streams.errors.topic", b"shop-ads"),
            ("__streams.errors.partition", b"3"),
            ("__streams.errors.offset", b"41"),
        ],
    )


def test_null_keys_and_values_stay_null(record):
    letter = dead_letter(record(None, None), Reason.NULL_KEY, "")
    assert (letter.key, letter.value) == (None, None)


def test_a_record_rejected_a_second_time_has_the_newest_reason_last(record):
    first = dead_letter(record(b"1", b"{", topic="ads"), Reason.UNDECODABLE, "first")
    again = dead_letter(
        record(first.key, first.value, first.headers, topic="ads"), Reason.BAD_KEY, "second"
    )
    assert again.headers[: len(first.headers)] == first.headers
    newest = dict(again.headers)
    assert newest[REASON_HEADER] == b"bad_key"
    assert newest[DETAIL_HEADER] == b"second"
    assert {TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER} <= newest.keys()


def test_a_record_of_any_size_fits_on_its_dead_letter_topic(record):
    """A detail quotes the record, and must not grow with it."""
    huge = "x" * (MAX_MESSAGE_BYTES - 100)
    status = f'{{"version": 1, "status": "{huge}"}}'.encode()
    for message in (record(b"1", status), record(huge.encode(), b"{}")):
        with pytest.raises(Rejected) as rejected:
            decode_control(message)
        letter = dead_letter(message, rejected.value.reason, rejected.value.detail)
        added = sum(len(name) + len(value) for name, value in letter.headers)
        assert MAX_DETAIL // 10 < added < 2 * MAX_DETAIL
        assert MAX_MESSAGE_BYTES + added < MAX_DEAD_LETTER_BYTES


def test_a_value_that_only_compression_made_fit_is_cut_and_says_so(record):
    """Else the dead letter would be refused, and the same record met again for ever."""
    value = b"x" * (3 * MAX_DEAD_LETTER_BYTES)
    letter = dead_letter(record(b"1", value), Reason.UNDECODABLE, "")
    assert letter.value == value[:MAX_VALUE_BYTES]
    assert dict(letter.headers)[CUT_HEADER] == str(len(value)).encode()
    found = open_letter(record(letter.key, letter.value, letter.headers, letter.topic))
    assert (found.cut_from_bytes, found.headers) == (str(len(value)), [])


def test_an_opened_letter_is_the_original_again(record):
    own = [(name, b"its own") for name in (REASON_HEADER, OFFSET_HEADER, CUT_HEADER)]
    original = [("trace", b"\x00\xff"), *own, ("trace", b"2")]
    for detail in ("byte 0 is no JSON", ""):
        message = record(b"\xfekey", None, original, topic="shop-ads")
        letter = dead_letter(message, Reason.UNDECODABLE, detail)
        found = open_letter(record(letter.key, letter.value, letter.headers, letter.topic))
        assert (found.key, found.value, found.headers) == (b"\xfekey", None, original)
        assert (found.reason, found.detail, found.cut_from_bytes) == ("undecodable", detail, "")
        origin = (found.origin_topic, found.origin_partition, found.origin_offset)
        assert origin == ("shop-ads", "3", "41")


def test_a_letter_of_another_tool_may_say_less(record):
    found = open_letter(record(b"k", b"v", [("other", b"x"), (DETAIL_HEADER, None)]))
    assert found.headers == [("other", b"x")]
    assert (found.reason, found.detail, found.origin_topic) == ("", "", "")

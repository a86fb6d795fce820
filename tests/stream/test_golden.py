"""Yesterday's bytes are read tomorrow: records of every version, kept as files.

`golden/VERSION/RECORD.FORMAT` is never changed. When a record gains a field, add a version here
with records that use it, and write its files with

    python tests/stream/test_golden.py VERSION
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stream.codec import (
    CLOCK_KEY,
    decode_ad,
    decode_control,
    decode_event,
    decode_impression,
    decode_request,
    decode_response,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_impression,
    encode_request,
    encode_response,
    encode_tick,
)
from stream.formats import FORMATS, Format
from stream.protobuf import MESSAGES
from stream.records import (
    MAX_ID,
    MAX_TIME_MS,
    Ad,
    ClockTick,
    Delivery,
    ErrorBody,
    FrequencyCap,
    Impression,
    Rule,
    ScoredAd,
    ScoreRequest,
    ScoreResponse,
    ServedAd,
    UserEvent,
)

FOLDER = Path(__file__).parent / "golden"

GOLDEN: dict[str, dict[str, Any]] = {
    "0.1": {
        "ad": Ad(
            version=1_506_916_800_000,
            advertiser="69",
            campaign="mailer-41",
            features={
                "product": {"1029743": 1.0},
                "department": {"GROCERY": 1.0, "CAFÉ ☕": 0.25},
            },
            targeting={"age": Rule(("25-34", "35-44"), ()), "store": Rule(deny=("367",))},
        ),
        "ad-least": Ad(version=0),
        "delivery": Delivery(7, "paused", 12.5, 0.25, 0.8, 1_506_916_800_000, MAX_TIME_MS),
        "delivery-least": Delivery(0),
        "clock": ClockTick(1_506_916_800_000),
        "event": UserEvent(
            "purchase-17",
            MAX_ID,
            "buy",
            1_506_816_800_000,
            3.99,
            {"product": ("1029743",), "store": ("367", "")},
        ),
        "event-least": UserEvent("e", None, "", 0),
        "request": ScoreRequest(
            request_id="r-1",
            user_id=1364,
            user={"age": ("35-44",), "kids": ()},
            k=100,
            candidates=500,
            filters={"department": Rule(allow=("GROCERY",), deny=())},
            context={"store": ("367",)},
            deadline_ms=200,
            seed=0,
            now_ms=1_506_916_800_000,
            min_offsets={"ads": {0: 17, 3: 0}},
            max_staleness_ms=50,
            mode="sparse",
            rank=False,
        ),
        "request-of-named-ads": ScoreRequest(request_id="r", user_id=0, candidates=(17, MAX_ID)),
        "request-with-limits": ScoreRequest(
            request_id="r-4",
            user_id=0,
            max_per_advertiser=2,
            frequency_cap=FrequencyCap(3, 86_400_000, ("view",), {17: 1, MAX_ID: 0}),
        ),
        "request-of-no-ads": ScoreRequest(request_id="r", user_id=0, candidates=()),
        "request-least": ScoreRequest(request_id="r", user_id=0),
        "response": ScoreResponse(
            request_id="r-1",
            user_id=1364,
            ads=(ScoredAd(MAX_ID, 2.31, 0.0423, {"engage": 0.0423}), ScoredAd(0, -1.0, 0.0)),
            models={"retriever": "retriever-0fb6c2a91e55", "ranker": "none"},
            epoch=812,
            offsets={"ads": {0: 187}, "user-events": {7: 160_100}},
            flags=("ranker_none",),
        ),
        "response-of-an-error": ScoreResponse(
            request_id="r", user_id=0, error=ErrorBody("deadline", "200 ms had passed")
        ),
        "impression": Impression(
            request_id="r-1",
            user_id=1364,
            user={"age": ("35-44",)},
            time_ms=1_506_916_800_000,
            ads=(ServedAd(17, 0, 2.31, 0.0423, {"product": {"1029743": 1.0, "b": 0.5}}),),
            models={"ranker": "demo"},
            arm="control",
        ),
    },
    "0.2": {
        "response-with-factors": ScoreResponse(
            request_id="r-1",
            user_id=1364,
            ads=(
                ScoredAd(
                    17,
                    2.31,
                    0.0423,
                    {"engage": 0.0423, "consume": 0.011},
                    {"bid": 1.0, "engage": 0.0423, "consume": 1.0},
                ),
            ),
        ),
    },
}


def message(value: bytes, key: bytes = b"1364") -> Any:
    return SimpleNamespace(key=key, value=value, headers=(), partition=0, offset=0)


CODECS: dict[type, tuple[Callable[[Any, Format], bytes], Callable[[bytes, Format], Any]]] = {
    Ad: (encode_ad, lambda raw, form: decode_ad(message(raw), default=form).ad),
    Delivery: (
        encode_delivery,
        lambda raw, form: decode_control(message(raw), default=form).delivery,
    ),
    ClockTick: (
        encode_tick,
        lambda raw, form: decode_control(message(raw, CLOCK_KEY), default=form),
    ),
    UserEvent: (
        encode_event,
        lambda raw, form: decode_event(message(raw), MAX_TIME_MS, default=form).event,
    ),
    ScoreRequest: (
        encode_request,
        lambda raw, form: decode_request(b"1364" if b"1364" in raw else b"0", raw, form=form),
    ),
    ScoreResponse: (encode_response, decode_response),
    Impression: (encode_impression, decode_impression),
}

every_file = pytest.mark.parametrize(
    ("version", "name", "form"),
    [
        pytest.param(version, name, form, id=f"{version}/{name}.{form}")
        for version, records in GOLDEN.items()
        for name in records
        for form in FORMATS
    ],
)


def plainly(record: Any) -> Any:
    """The record itself, an ad with all its weights: those of 1 may be left out in writing."""
    if isinstance(record, Ad):
        weights = {
            field: values if isinstance(values, dict) else dict.fromkeys(values, 1.0)
            for field, values in record.features.items()
        }
        return msgspec.structs.replace(record, features=weights)
    return record


@every_file
def test_yesterdays_bytes_are_read_today(version: str, name: str, form: str) -> None:
    record = GOLDEN[version][name]
    _, decode = CODECS[type(record)]
    raw = (FOLDER / version / f"{name}.{form}").read_bytes()
    assert plainly(decode(raw, FORMATS[form])) == plainly(record)


@every_file
def test_what_is_written_today_is_read_today(version: str, name: str, form: str) -> None:
    record = GOLDEN[version][name]
    encode, decode = CODECS[type(record)]
    assert plainly(decode(encode(record, FORMATS[form]), FORMATS[form])) == plainly(record)


def test_every_record_has_golden_bytes() -> None:
    assert len(CODECS) == len(MESSAGES)
    assert {type(record) for records in GOLDEN.values() for record in records.values()} == set(
        CODECS
    )


def test_every_file_is_tested() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {
        f"{version}/{name}.{form}"
        for version, records in GOLDEN.items()
        for name in records
        for form in FORMATS
    }


if __name__ == "__main__":
    folder = FOLDER / sys.argv[1]
    folder.mkdir(parents=True)
    for name, record in GOLDEN[sys.argv[1]].items():
        for form in FORMATS:
            encode, _ = CODECS[type(record)]
            (folder / f"{name}.{form}").write_bytes(encode(record, FORMATS[form]))

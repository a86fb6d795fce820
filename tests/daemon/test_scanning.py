"""Ads that the kernel reads: the same columns as by the codec, and no record that it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.appliers import AdsApplier, Batch
from daemon.features import FeatureMap
from daemon.models import Models
from daemon.scanning.ads import AdScan
from daemon.translate import AdColumns
from gpuindex import AdBatch, FeatureDictionary
from model.derived import Band
from model.features import Encoder
from model.schema import Schema
from model.value import ValueModel
from stream.codec import decode_ad, encode_ad
from stream.errors import Reason, Rejected
from stream.formats import JSON, MSGPACK, header_of
from stream.records import MAX_FEATURES, Ad, Rule

NONE = Models(None, None, ValueModel(), None)
READING = Models(
    None,
    None,
    ValueModel(),
    Encoder(
        Schema(
            item_fields=("product", "band", "advertiser", "brand"),
            derived={"band": Band("price", (1.0, 10.0))},
        )
    ),
)
Row = dict[str, Any]


def message(value: bytes | None, key: bytes | None = b"5", headers: Any = ()) -> ConsumerRecord:
    return ConsumerRecord("ads", 0, 0, 7, 0, key, value, None, 0, 0, tuple(headers))


def rows(batch: AdBatch, features: FeatureMap) -> list[Row]:
    """A batch's records in words, whatever number a feature has."""
    found = []
    for row in range(len(batch)):
        own = slice(batch.feature_offsets[row], batch.feature_offsets[row + 1])
        weights: dict[str, int] = {}
        for number, weight in zip(
            batch.feature_ids[own].tolist(), batch.weights[own].tolist(), strict=True
        ):
            weights[features.key(number)] = max(weight, weights.get(features.key(number), 0))
        assert batch.groups is not None
        group = int(batch.groups[row])
        found.append(
            {
                "ad_id": int(batch.ad_ids[row]),
                "version": int(batch.versions[row]),
                "deleted": bool(batch.deleted[row]),
                "weights": weights,
                "targeting": batch.targeting[row],
                "group": features.key(group) if group >= 0 else None,
                "payload": batch.payload[row].tolist(),
            }
        )
    return found


def by_codec(messages: Sequence[ConsumerRecord], models: Models) -> list[Row | str]:
    """What each record comes to, one by one."""
    found: list[Row | str] = []
    for each in messages:
        features = FeatureMap(FeatureDictionary(), models.encoder)
        columns = AdColumns(features, models)
        try:
            columns.add(decode_ad(each))
            found += rows(columns.batch(), features)
        except Rejected as error:
            found.append(error.reason)
    return found


class Writer:
    """As much of an index as decoding needs."""

    def __init__(self, models: Models) -> None:
        self.features = FeatureMap(FeatureDictionary(), models.encoder)


def by_applier(messages: Sequence[ConsumerRecord], models: Models) -> list[Row | str]:
    writer: Any = Writer(models)
    applier = AdsApplier(writer, models, JSON)
    # Twice: what is new in the first batch is known in the second.
    applier.decode(messages, 0)
    batch: Batch[AdBatch] = applier.decode(messages, 0)
    found: list[Row | str] = list(rows(batch.content, writer.features))
    assert len(batch.written_ms) == len(found)
    reasons = {id(each): error.reason for each, error in batch.rejected}
    for place, each in enumerate(messages):
        if id(each) in reasons:
            found.insert(place, reasons[id(each)])
    return found


def scanned(messages: Sequence[ConsumerRecord], models: Models = NONE) -> list[int]:
    """Which of the records the kernel reads."""
    scan = AdScan(FeatureMap(FeatureDictionary(), models.encoder), models, JSON)
    return scan.read(messages)[1].tolist()


names = st.sampled_from(["product", "price", "brand", "advertiser", "größe", "a=b", ""])
values = st.sampled_from(["1", "0.5", "20", "", "ü", "€", "x y", 'q"', "\t", "\x7f", "\ud800"])
weights = st.sampled_from([0, 1, 0.0, 1.0, 0.5, 1e-3, 0.001953125, 1.5, -0.5, 0.1234567890123456])
features = st.dictionaries(
    names,
    st.lists(values, max_size=3) | st.dictionaries(values, weights | st.floats(0, 1), max_size=3),
    max_size=4,
)
targeting = st.dictionaries(
    st.sampled_from(["geo", "a=b"]),
    st.dictionaries(
        st.sampled_from(["allow", "deny", "other"]), st.none() | st.lists(values, max_size=2)
    ),
    max_size=2,
)
ads = st.fixed_dictionaries(
    {"version": st.sampled_from([0, 7, 10**17, 10**18, 2**63 - 1, 2**63, -1, 1.5, "7", None])},
    optional={
        "advertiser": values | st.none(),
        "campaign": values,
        "features": features | st.none(),
        "targeting": targeting,
        "other": values,
    },
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """An ad as some producer writes it, perhaps damaged."""
    ad = draw(ads)
    keys = draw(st.permutations(list(ad)))
    text = json.dumps(
        {key: ad[key] for key in keys},
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, None, 1, "\t"])),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": ")])),
    ).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from([b"", b'"', b"}", b"]", b",", b" ", b"0", b"\xff", b'"":1,']))
        text = text[:at] + piece + text[at + draw(st.integers(0, 2)) :]
    return text


keys = st.sampled_from([b"5", b"0", b"05", b"", b"x", b"9223372036854775807", b"9" * 19, None])
records = st.builds(
    message,
    texts() | st.none(),
    keys,
    st.sampled_from([(), (), (header_of(JSON),), (header_of(MSGPACK),), (("trace", b"1"),)]),
)


@settings(max_examples=400)
@given(st.lists(records, max_size=4), st.sampled_from([NONE, READING]))
def test_a_batch_is_what_the_codec_makes_of_each_record(
    batch: list[ConsumerRecord], models: Models
) -> None:
    assert by_applier(batch, models) == by_codec(batch, models)


REPEATED = [
    b'{"version":1,"features":{"a":["x"],"a":["y"]}}',
    b'{"version":1,"features":{"a":{"x":1,"x":0.5}}}',
    b'{"version":1,"features":{"a":{"x":0.5,"x":0}}}',
    b'{"version":1,"version":2}',
    b'{"version":1,"advertiser":"a","advertiser":"b"}',
    b'{"version":1,"advertiser":"","advertiser":"b"}',
    b'{"version":1,"targeting":{"geo":{"allow":["x"]}},"targeting":{}}',
    b'{"version":1,"features":{"a":["x"]},"features":{}}',
]


@pytest.mark.parametrize("text", REPEATED)
def test_of_a_repeated_key_the_last_one_counts(text: bytes) -> None:
    assert by_applier([message(text)], NONE) == by_codec([message(text)], NONE)


BAD_BYTES = [
    b'{"version":1,"features":{"\xff":["x"]}}',
    b'{"version":1,"features":{"\xff":[]}}',
    b'{"version":1,"features":{"\xff":{"x":0}}}',
    b'{"version":1,"features":{"a":{"\xff":0}}}',
    b'{"version":1,"features":{"\xff":{"x":0,"y":0.0}},"advertiser":"a"}',
    b'{"version":1,"advertiser":"\xff"}',
    b'{"version":1,"campaign":"\xed\xa0\x80"}',
    b'{"version":1,"targeting":{"geo":{"deny":["\xff"]}}}',
]


@pytest.mark.parametrize("text", BAD_BYTES)
def test_bytes_that_are_no_text_are_refused_wherever_they_stand(text: bytes) -> None:
    assert by_applier([message(text)], NONE) == [Reason.UNDECODABLE]


REFUSED_AT_ITS_END = [
    b'{"version":1,"features":{"a":["new"],"b":["\xff"]}}',
    b'{"version":1,"features":{"a":["new"]},"targeting":{"a=b":{}}}',
    b'{"version":1,"features":{"a":["new"]},"targeting":{"geo":{"allow":[1]}}}',
]


@pytest.mark.parametrize("text", REFUSED_AT_ITS_END)
def test_a_rejected_ad_numbers_no_features(text: bytes) -> None:
    """What is numbered stays for ever: a producer's mistake must not fill the dictionary."""
    writer: Any = Writer(NONE)
    good = message(b'{"version":1,"features":{"a":["good"]},"advertiser":"x","campaign":"y"}')
    AdsApplier(writer, NONE, JSON).decode([message(text), good, message(text)], 0)
    known = [writer.features.key(number) for number in range(len(writer.features))]
    assert known == ["a=good", "advertiser=x", "campaign=y"]


def test_an_ad_as_producers_write_it_is_read_by_the_kernel() -> None:
    """Else nothing would be wrong but the speed."""
    written = Ad(
        7,
        "Müller",
        "spring",
        {"price": ("5", "9"), "größe": {"L": 1.0, "XL": 0.25}, "none": ()},
        {"geo": Rule(allow=("de", "at"))},
    )
    body = json.loads(encode_ad(written))
    texts = [encode_ad(written), encode_ad(Ad(7)), json.dumps(body, ensure_ascii=False).encode()]
    read = [message(text, str(n).encode()) for n, text in enumerate(texts)]
    for models in (NONE, READING):
        assert scanned(read, models) == [0, 1, 2]
        assert by_applier(read, models) == by_codec(read, models)


def test_what_the_kernel_leaves_keeps_its_place_among_the_others() -> None:
    """Versions are applied in order of arrival."""
    plain, escaped = b'{"version":%d}', b'{"version":%d,"advertiser":"\\u0061"}'
    batch = [
        message(text % version)
        for version, text in enumerate([plain, escaped, b"[%d]", plain, escaped, plain])
    ]
    batch.insert(3, message(None))
    assert scanned(batch) == [0, 4, 6]
    versions = [row["version"] for row in by_applier(batch, NONE) if isinstance(row, dict)]
    assert versions == [0, 1, -1, 3, 4, 5]


def test_an_ad_with_too_many_features_is_rejected_in_any_shape() -> None:
    many = [str(n) for n in range(MAX_FEATURES)]
    in_fields = {f"f{n}": {str(m): 0 for m in range(64)} for n in range(64)}
    for features, count in (
        ({"a": many}, 1),
        ({"a": [*many, "one more"]}, 0),
        ({"a": many[1:], "b": {"x": 0}}, 1),
        ({"a": many, "b": {"x": 0}}, 0),
        (in_fields, 1),
        ({"a": ["x"], **in_fields}, 0),
    ):
        record = message(json.dumps({"version": 1, "features": features}).encode())
        assert by_applier([record], NONE) == by_codec([record], NONE)
        assert len(scanned([record])) <= count


def test_more_new_features_than_a_batch_has_room_for_are_read_all_the_same() -> None:
    batch = [
        message(
            json.dumps({"version": 1, "features": {"f": [f"{ad}{n}" for n in range(900)]}}).encode()
        )
        for ad in "abcdefgh"
    ]
    assert by_applier(batch, NONE) == by_codec(batch, NONE)


def test_weights_are_rounded_as_the_codec_rounds_them() -> None:
    drawn = np.random.default_rng(0).random(2_000)
    halves = (np.arange(1, 255) + 0.5) / 255
    weights = [*drawn.tolist(), *drawn.round(4).tolist(), *halves.tolist(), 1e-5, 1.0, 0.0]
    batch = [
        message(json.dumps({"version": 1, "features": {"f": {"v": weight}}}).encode())
        for weight in weights
    ]
    assert len(scanned(batch)) > len(batch) // 3
    assert by_applier(batch, NONE) == by_codec(batch, NONE)


def test_a_key_with_the_digest_of_another_is_another() -> None:
    """Lists are exact: were a digest enough, two features in 2^64 would share one."""
    scan = AdScan(FeatureMap(FeatureDictionary(), None), NONE, JSON)
    record = message(b'{"version":1,"features":{"f":["known"]}}')
    first, _ = scan.read([record])
    again, _ = scan.read([record])
    assert first.feature_ids[0] == again.feature_ids[0]
    arena = scan._known.arena
    # Another text under the digest of this one.
    begin = bytes(arena).index(b"f=known")
    arena[begin : begin + 7] = np.frombuffer(b"f=other", np.uint8)
    read = scan._scanned([record])
    assert [read.text[a:b] for _, _, _, a, b in read.unknown.tolist()] == [b"known"]

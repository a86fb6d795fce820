"""Ads from bytes: what is applied, what is a delete, and what is rejected."""

import json

import pytest

from stream.codec import VERSION_HEADER, decode_ad, encode_ad
from stream.errors import Reason, Rejected
from stream.records import MAX_FEATURES, NEXT_VERSION, Ad, AdChange, Rule

AD = {
    "version": 7,
    "advertiser": "69",
    "campaign": "spring",
    "features": {"product": ["1025743"], "category": {"SOFT DRINKS": 1.0, "SNACKS": 0.25}},
    "targeting": {"age": {"allow": ["35-44"], "deny": ["19-24"]}, "store": {"deny": ["367"]}},
}


def value(body: object) -> bytes:
    """JSON; unlike the codec it writes NaN and infinity, as many producers do."""
    return json.dumps(body).encode()


def many(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_an_ad_is_read_whole(record):
    change = decode_ad(record(b"5", value(AD)))
    assert change == AdChange(
        5,
        7,
        Ad(
            version=7,
            advertiser="69",
            campaign="spring",
            features={
                "product": ("1025743",),
                "category": {"SOFT DRINKS": 1.0, "SNACKS": 0.25},
            },
            targeting={
                "age": Rule(allow=("35-44",), deny=("19-24",)),
                "store": Rule(deny=("367",)),
            },
        ),
    )


def test_listed_features_stay_a_list_and_a_weight_of_zero_is_no_feature(record):
    features = {"brand": ["a", "a", "b"], "type": {"c": 0, "d": 1, "e": 0.5}}
    ad = decode_ad(record(b"5", value({"version": 1, "features": features}))).ad
    assert ad is not None
    assert ad.features == {"brand": ("a", "a", "b"), "type": {"d": 1.0, "e": 0.5}}


def test_a_null_ad_is_a_delete_with_the_version_of_its_header(record):
    headers = [("trace", b"x"), (VERSION_HEADER, b"12")]
    assert decode_ad(record(b"5", None, headers)) == AdChange(5, 12, None)


def test_a_delete_without_a_version_is_one_more_than_the_last(record):
    assert decode_ad(record(b"5", None)) == AdChange(5, NEXT_VERSION, None)


@pytest.mark.parametrize("version", [b"", b"-1", b"1.5", b"abc", b"\xff", None])
def test_a_delete_whose_version_is_not_decimal_is_rejected(version, record):
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", None, [(VERSION_HEADER, version)]))
    assert rejected.value.reason is Reason.BAD_VERSION


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "7"},
        {"version": 7.5},
        {"version": True},
        {"version": -1},
        {"version": 2**63},
        {"advertiser": 69},
        {"campaign": None},
        {"features": [["product", "1"]]},
        {"features": {"product": "1025743"}},
        {"features": {"product": [1025743]}},
        {"features": {"product": [None]}},
        {"features": {"product": {"1025743": "1"}}},
        {"features": {"product": {"1025743": 1.5}}},
        {"features": {"product": {"1025743": -0.5}}},
        {"features": {"a=b": ["c"]}},
        {"features": {"": ["c"]}},
        {"targeting": {"age": ["35-44"]}},
        {"targeting": {"age": {"allow": "35-44"}}},
        {"targeting": {"age": {"deny": [35]}}},
        {"targeting": {"a=b": {}}},
    ],
)
def test_an_ad_with_a_wrong_field_is_rejected(change, record):
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", value(AD | change)))
    assert rejected.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_an_ad_with_a_weight_that_is_not_finite_is_rejected(weight, record):
    raw = f'{{"version": 1, "features": {{"type": {{"a": {weight}}}}}}}'.encode()
    with pytest.raises(Rejected):
        decode_ad(record(b"5", raw))


def test_an_ad_without_a_version_is_rejected(record):
    with pytest.raises(Rejected, match="version"):
        decode_ad(record(b"5", value({"advertiser": "69"})))


@pytest.mark.parametrize(
    "features",
    [
        lambda count: {"type": many(count)},
        lambda count: {"type": dict.fromkeys(many(count), 0.5)},
        lambda count: {name: ["a"] for name in many(count)},
        lambda count: {"type": many(count - 1), "brand": [""]},
        lambda count: {"type": [""] * count},
    ],
)
def test_an_ad_may_have_4096_features_and_no_more(features, record):
    decode_ad(record(b"5", value({"version": 1, "features": features(MAX_FEATURES)})))
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", value({"version": 1, "features": features(MAX_FEATURES + 1)})))
    assert rejected.value.reason is Reason.TOO_MANY_FEATURES


def test_an_empty_allow_survives_and_is_not_the_absence_of_a_condition(record):
    ad = decode_ad(record(b"5", encode_ad(Ad(1, targeting={"age": Rule(allow=())})))).ad
    assert ad is not None
    assert ad.targeting["age"].allow == ()

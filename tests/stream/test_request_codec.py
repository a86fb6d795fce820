"""Score requests and what answers them: which can be served, answered with an error, or neither."""

import json
from collections import Counter

import pytest

from stream.codec import (
    decode_explain_body,
    decode_request,
    decode_request_body,
    decode_response,
    encode_impression,
    encode_request,
    encode_response,
)
from stream.errors import Reason, Rejected, RequestRejected
from stream.records import (
    MAX_FEATURES,
    MAX_ID,
    ErrorBody,
    FrequencyCap,
    Impression,
    Rule,
    ScoredAd,
    ScoreRequest,
    ScoreResponse,
    ServedAd,
)

REQUEST = {
    "request_id": "r-1",
    "user_id": "1234",
    "user": {"age": ["35-44"], "kids_count": ["1"]},
    "k": 100,
    "candidates": 500,
    "filters": {"department": {"allow": ["GROCERY"], "deny": ["DELI"]}},
    "context": {"store": ["367"]},
    "deadline_ms": 200,
    "seed": 99,
    "now_ms": 1_500_000_000_000,
    "min_offsets": {"ads": {"0": 17, "3": 0}},
    "max_staleness_ms": 50,
    "mode": "sparse",
    "rank": False,
}


def value(body: object) -> bytes:
    return json.dumps(body).encode()


def rejection(key: bytes | None, raw: bytes | None) -> RequestRejected:
    with pytest.raises(RequestRejected) as rejected:
        decode_request(key, raw)
    return rejected.value


def test_a_request_is_read_whole():
    assert decode_request(b"1234", value(REQUEST)) == ScoreRequest(
        request_id="r-1",
        user_id=1234,
        user={"age": ("35-44",), "kids_count": ("1",)},
        k=100,
        candidates=500,
        filters={"department": Rule(allow=("GROCERY",), deny=("DELI",))},
        context={"store": ("367",)},
        deadline_ms=200,
        seed=99,
        now_ms=1_500_000_000_000,
        min_offsets={"ads": {0: 17, 3: 0}},
        max_staleness_ms=50,
        mode="sparse",
        rank=False,
    )


def test_a_request_of_two_ids_has_every_default():
    request = decode_request(b"0", b'{"request_id": "r", "user_id": "0"}')
    assert request == ScoreRequest(request_id="r", user_id=0)
    assert (request.k, request.candidates, request.mode, request.rank) == (10, None, "full", True)
    assert (request.deadline_ms, request.now_ms, request.max_staleness_ms) == (None, None, None)


def test_candidates_are_a_number_of_ads_or_the_ads_themselves():
    ids = ["17", str(2**63 - 1), "0"]
    request = decode_request(b"1234", value(REQUEST | {"candidates": ids}))
    assert request.candidates == (17, 2**63 - 1, 0)
    assert decode_request(b"1234", encode_request(request)) == request
    assert decode_request(b"1234", value(REQUEST | {"candidates": []})).candidates == ()


def test_a_frequency_cap_counts_ads_by_id():
    cap = {"most": 3, "window_ms": 1_000, "actions": ["view"], "seen": {str(2**63 - 1): 2}}
    request = decode_request(b"1234", value(REQUEST | {"frequency_cap": cap}))
    assert request.frequency_cap == FrequencyCap(3, 1_000, ("view",), {2**63 - 1: 2})
    assert decode_request(b"1234", encode_request(request)) == request


def test_unknown_keys_of_a_frequency_cap_are_counted():
    unknown = Counter()
    cap = {"most": 3, "per": "week"}
    request = decode_request(b"1234", value(REQUEST | {"frequency_cap": cap}), unknown)
    assert request.frequency_cap == FrequencyCap(3)
    assert unknown == {"score-requests": 1}


def test_a_request_to_explain_is_a_request_and_an_ad():
    unknown = Counter()
    request, ad_id = decode_explain_body(value(REQUEST | {"ad_id": "17"}), unknown)
    assert (request, ad_id) == (decode_request_body(value(REQUEST)), 17)
    assert not unknown
    with pytest.raises(RequestRejected, match="ad_id"):
        decode_explain_body(value(REQUEST))


def test_the_seed_of_a_request_without_one_is_a_fixed_hash_of_its_id():
    """Workers and versions must agree on it, so the value itself is the claim."""
    assert ScoreRequest(request_id="a", user_id=1).effective_seed == 3_405_396_810_240_292_928
    assert ScoreRequest(request_id="b", user_id=1).effective_seed != 3_405_396_810_240_292_928
    assert ScoreRequest(request_id="a", user_id=1, seed=0).effective_seed == 0


def test_over_http_there_is_no_key_to_hold_the_user_against():
    assert decode_request_body(value(REQUEST)) == decode_request(b"1234", value(REQUEST))


@pytest.mark.parametrize(
    "change",
    [
        {"user": {"age": "35-44"}},
        {"user": {"age": [35]}},
        {"user": None},
        {"user": {"a=b": ["c"]}},
        {"k": 0},
        {"k": -1},
        {"k": "100"},
        {"k": 1.5},
        {"frequency_cap": {}},
        {"frequency_cap": {"most": 0}},
        {"frequency_cap": {"most": 1, "seen": {"01": 1}}},
        {"frequency_cap": {"most": 1, "seen": {"1": -1}}},
        {"max_per_advertiser": 0},
        {"candidates": 0},
        {"candidates": [17]},
        {"candidates": ["-1"]},
        {"candidates": "17"},
        {"filters": {"department": ["GROCERY"]}},
        {"filters": {"": {}}},
        {"context": {"store": "367"}},
        {"context": {"a=b": ["c"]}},
        {"deadline_ms": -1},
        {"deadline_ms": "soon"},
        {"seed": -1},
        {"seed": 2**63},
        {"now_ms": -1},
        {"min_offsets": {"ads": {"zero": 1}}},
        {"min_offsets": {"ads": [1]}},
        {"max_staleness_ms": -1},
        {"mode": "dense"},
        {"rank": 1},
    ],
)
def test_a_malformed_request_can_be_answered_when_its_ids_can_be_read(change):
    rejected = rejection(b"1234", value(REQUEST | change))
    assert (rejected.request_id, rejected.user_id) == ("r-1", 1234)
    assert rejected.reason is Reason.INVALID_FIELD
    assert (rejected.code, rejected.message) == ("invalid_field", rejected.detail)
    assert next(iter(change)) in rejected.message or "field name" in rejected.message


@pytest.mark.parametrize(
    ("change", "request_id", "user_id"),
    [
        ({"request_id": None}, None, 1234),
        ({"request_id": ""}, None, 1234),
        ({"request_id": 5}, None, 1234),
        ({"user_id": None}, "r-1", None),
        ({"user_id": 1234}, "r-1", None),
        ({"user_id": "01234"}, "r-1", None),
        ({"user_id": "-1"}, "r-1", None),
        ({"user_id": "\u0663"}, "r-1", None),  # three in Arabic digits, which int() reads
        ({"user_id": str(MAX_ID + 1)}, "r-1", None),
    ],
)
def test_a_request_with_an_unreadable_id_cannot_be_answered(change, request_id, user_id):
    rejected = rejection(b"1234", value(REQUEST | change))
    assert rejected.reason is Reason.INVALID_FIELD
    assert (rejected.request_id, rejected.user_id) == (request_id, user_id)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"k": NaN}', b'{"k": 1e999}', b"[" * 99_999])
def test_a_request_that_is_not_json_is_undecodable_and_cannot_be_answered(raw):
    rejected = rejection(b"1234", raw)
    assert rejected.reason is Reason.UNDECODABLE
    assert (rejected.request_id, rejected.user_id) == (None, None)


@pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"r"', b"{}"])
def test_a_request_without_ids_cannot_be_answered(raw):
    rejected = rejection(b"1234", raw)
    assert rejected.reason is Reason.INVALID_FIELD
    assert (rejected.request_id, rejected.user_id) == (None, None)


def test_a_null_request_is_rejected():
    rejected = rejection(b"1234", None)
    assert rejected.reason is Reason.NULL_VALUE
    assert (rejected.request_id, rejected.user_id) == (None, None)


def test_a_request_without_a_key_is_rejected():
    assert rejection(None, value(REQUEST)).reason is Reason.NULL_KEY


@pytest.mark.parametrize("key", [b"", b"1235", b"01234", b"\xff"])
def test_a_request_under_another_users_key_is_rejected(key):
    """It reached the worker of another user's histories, and would get a wrong answer silently."""
    rejected = rejection(key, value(REQUEST))
    assert rejected.reason is Reason.BAD_KEY
    assert (rejected.request_id, rejected.user_id) == ("r-1", 1234)


def test_a_request_may_have_4096_profile_and_context_values_and_no_more():
    half = [str(number) for number in range(MAX_FEATURES // 2)]
    full = REQUEST | {"user": {"a": half}, "context": {"b": half}}
    decode_request(b"1234", value(full))
    rejected = rejection(b"1234", value(full | {"user": {"a": half, "c": ["1"]}}))
    assert rejected.reason is Reason.TOO_MANY_FEATURES
    assert (rejected.request_id, rejected.user_id) == ("r-1", 1234)


def test_unknown_keys_of_a_request_are_ignored_and_counted():
    unknown = Counter()
    filters = {"department": REQUEST["filters"]["department"] | {"note": 1}}
    body = REQUEST | {"filters": filters, "arm": "b", "trace": {"id": 1}}
    assert decode_request(b"1234", value(body), unknown) == decode_request(b"1234", value(REQUEST))
    assert unknown == {"score-requests": 3}


def test_requests_and_responses_survive_both_ways():
    request = decode_request(b"1234", value(REQUEST))
    assert decode_request(b"1234", encode_request(request)) == request
    response = ScoreResponse(
        request_id="r-1",
        user_id=MAX_ID,
        ads=(ScoredAd(MAX_ID, 1.5, 0.25, {"engage": 0.5, "consume": 0.1}), ScoredAd(0, -2.0, 0.0)),
        models={"retriever": "demo", "ranker": "none"},
        epoch=17,
        offsets={"ads": {0: 5, 3: 0}},
        flags=("no_ranker",),
    )
    assert decode_response(encode_response(response)) == response
    failure = ScoreResponse(request_id="r", user_id=1, error=ErrorBody("unsupported", "why"))
    assert decode_response(encode_response(failure)) == failure


def test_a_response_spells_every_key_of_the_contract_and_ids_as_strings():
    body = json.loads(encode_response(ScoreResponse(request_id="r", user_id=1)))
    assert body == {
        "request_id": "r",
        "user_id": "1",
        "ads": [],
        "models": {},
        "epoch": 0,
        "offsets": {},
        "flags": [],
        "error": None,
    }
    ads = (ScoredAd(2**60 + 1, 1.0, 2.0),)
    body = json.loads(encode_response(ScoreResponse(request_id="r", user_id=1, ads=ads)))
    ad = {"ad_id": str(2**60 + 1), "score": 1.0, "value": 2.0, "tasks": {}, "factors": {}}
    assert body["ads"] == [ad]


def test_an_impression_carries_what_was_served():
    impression = Impression(
        request_id="r",
        user_id=1,
        user={"age": ("35-44",)},
        time_ms=5,
        ads=(ServedAd(2, 0, 1.0, 2.0, {"type": {"a": 1.0}}),),
        models={"ranker": "demo"},
        arm="control",
        context={"store": ("s1",)},
    )
    assert json.loads(encode_impression(impression)) == {
        "request_id": "r",
        "user_id": "1",
        "user": {"age": ["35-44"]},
        "time_ms": 5,
        "ads": [
            {"ad_id": "2", "rank": 0, "score": 1.0, "value": 2.0, "features": {"type": {"a": 1.0}}}
        ],
        "models": {"ranker": "demo"},
        "arm": "control",
        "context": {"store": ["s1"]},
    }


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b"{}", b'{"user_id": "1", "ads": 5}', b'{"user_id": 1, "ads": []}']
)
def test_what_is_not_a_response_is_rejected(raw):
    with pytest.raises(Rejected):
        decode_response(raw)

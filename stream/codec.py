"""Bytes to records and back.

Owns what makes a valid record, the decimal ids inside it, and the message keys. Promises that every
sequence of bytes becomes a record or a `Rejected` whose reason is one of a closed set, that nothing
half-read gets through, and that unknown keys are ignored but counted. How the bytes hold their keys
and values is `stream.formats`' part, and what happens to a rejected record `stream.deadletters`'.

Decoders take `unknown_keys`, a counter by topic name (without prefix) to which they add, and
`default`, the format of records whose headers name none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from .bodies import AdBody, EventBody
from .errors import Reason, Rejected, RequestRejected
from .formats import JSON, Format, Record, format_of
from .records import (
    MAX_FEATURES,
    MAX_ID,
    NEXT_VERSION,
    Ad,
    AdChange,
    ClockTick,
    ControlChange,
    Delivery,
    EventRecord,
    Explanation,
    Impression,
    ScoreRequest,
    ScoreResponse,
    UserEvent,
)
from .strict import check_count, check_names, convert, decode, decode_plain
from .topics import ADS, ADS_CONTROL, SCORE_REQUESTS, USER_EVENTS

VERSION_HEADER: Final = "headwater-version"
CLOCK_KEY: Final = b"_clock"
# Producers' clocks differ, days do not: later than this is a wrong unit or a wrong clock.
MAX_AHEAD_MS: Final = 86_400_000

_MAX_ID_DIGITS: Final = len(str(MAX_ID))
# A feature takes at least a byte in every format, so a shorter value cannot hold too many and need
# not be counted.
_COUNTED_FROM_BYTES: Final = MAX_FEATURES


class Message(Protocol):
    """What the decoders need of a Kafka record; aiokafka's `ConsumerRecord` has it all."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def parse_id(text: str) -> int:
    """The id written in `text`: 0 to 2^63 - 1 in decimal ASCII, no sign, no leading zero.

    There is one spelling per id because the broker partitions and compacts by the key's bytes.

    Raises:
        ValueError: anything else.
    """
    if text.isdigit() and text.isascii() and len(text) <= _MAX_ID_DIGITS:
        number = int(text)
        if number <= MAX_ID and (text[0] != "0" or text == "0"):
            return number
    raise ValueError(f"{_short(text)} is not an id: 0 to 2^63 - 1, decimal, no leading zero")


def encode_id(number: int) -> bytes:
    """The message key of an ad or a user."""
    return b"%d" % number


def decode_ad(
    message: Message, unknown_keys: Counter[str] | None = None, default: Format = JSON
) -> AdChange:
    """Read a record of `ads`; a null value is a delete, and a weight of 0 is no feature.

    Raises:
        Rejected: the key or the value is not as it must be.
    """
    ad_id = _key_id(message.key)
    value = message.value
    if value is None:
        return AdChange(ad_id, _header_version(message.headers), None)
    form = format_of(message.headers, default)
    body = decode(form, value, AdBody, ADS, unknown_keys)
    check_names(body.features)
    check_names(body.targeting)
    if len(value) > _COUNTED_FROM_BYTES:
        check_count(body.features.values())
    features = body.features
    for field, values in features.items():
        if type(values) is dict and 0.0 in values.values():
            features[field] = {value: weight for value, weight in values.items() if weight > 0.0}
    ad = Ad(body.version, body.advertiser, body.campaign, features, body.targeting)
    return AdChange(ad_id, body.version, ad)


def decode_control(
    message: Message, unknown_keys: Counter[str] | None = None, default: Format = JSON
) -> ControlChange | ClockTick:
    """Read a record of `ads-control`; a null value asks for the defaults.

    Raises:
        Rejected: the key or the value is not as it must be.
    """
    key, value = message.key, message.value
    if key == CLOCK_KEY:
        if value is None:
            raise Rejected(Reason.NULL_VALUE, "a clock record needs a time")
        form = format_of(message.headers, default)
        return decode(form, value, ClockTick, ADS_CONTROL, unknown_keys)
    ad_id = _key_id(key)
    if value is None:
        return ControlChange(ad_id, _header_version(message.headers), None)
    form = format_of(message.headers, default)
    delivery = decode(form, value, Delivery, ADS_CONTROL, unknown_keys)
    return ControlChange(ad_id, delivery.version, delivery)


def decode_event(
    message: Message,
    now_ms: int,
    unknown_keys: Counter[str] | None = None,
    default: Format = JSON,
) -> EventRecord:
    """Read a record of `user-events`; `now_ms` is the clock that its time is held against.

    Raises:
        Rejected: the key or the value is not as it must be.
    """
    user_id = _key_id(message.key)
    value = message.value
    if value is None:
        raise Rejected(Reason.NULL_VALUE, "an event cannot be deleted")
    form = format_of(message.headers, default)
    body = decode(form, value, EventBody, USER_EVENTS, unknown_keys)
    if body.time_ms > now_ms + MAX_AHEAD_MS:
        raise Rejected(
            Reason.FUTURE_EVENT,
            f"time_ms {body.time_ms} ({_date(body.time_ms)}) is more than a day after the worker's"
            f" now ({_date(now_ms)}, by its clock.mode)",
        )
    check_names(body.features)
    if len(value) > _COUNTED_FROM_BYTES:
        check_count(body.features.values())
    ad_id = None if body.ad_id is None else _field_id(body.ad_id, "ad_id")
    return EventRecord(
        user_id,
        UserEvent(body.event_id, ad_id, body.action, body.time_ms, body.value, body.features),
        message.partition,
        message.offset,
    )


def decode_request(
    key: bytes | None,
    value: bytes | None,
    unknown_keys: Counter[str] | None = None,
    form: Format = JSON,
) -> ScoreRequest:
    """Read a record of `score-requests` that is in the format `form`.

    Raises:
        RequestRejected: with both ids when they can be read, so that it can be answered.
    """
    body = _request_body(value, form)
    with _answerable(body):
        request = _request(body, unknown_keys)
        if key is None:
            raise Rejected(Reason.NULL_KEY, "the key must be the user id")
        # The key decides which worker gets the request, and only one holds the user's history.
        if key != encode_id(request.user_id):
            detail = f"the key {_short(key)} is not the user id {request.user_id}"
            raise Rejected(Reason.BAD_KEY, detail)
    return request


def decode_request_body(
    value: bytes, unknown_keys: Counter[str] | None = None, form: Format = JSON
) -> ScoreRequest:
    """Read a request that came without a message key, as over HTTP.

    Raises:
        RequestRejected: as `decode_request`.
    """
    body = _request_body(value, form)
    with _answerable(body):
        return _request(body, unknown_keys)


def decode_explain_body(
    value: bytes, unknown_keys: Counter[str] | None = None
) -> tuple[ScoreRequest, int]:
    """Read the body of `POST /v1/explain`: a request, and the id of the ad to explain; JSON.

    Raises:
        RequestRejected: as `decode_request`.
    """
    body = _request_body(value, JSON)
    with _answerable(body):
        ad_id = _field_id(body.pop("ad_id", None), "ad_id")
        return _request(body, unknown_keys), ad_id


def decode_response(value: bytes, form: Format = JSON) -> ScoreResponse:
    """Read a record of `score-responses`; keys that this version does not know are ignored.

    Raises:
        Rejected: not a response.
    """
    return _with_binary_ids(decode_plain(form, value, ScoreResponse), ScoreResponse)


def decode_impression(value: bytes, form: Format = JSON) -> Impression:
    """Read a record of `impressions`; keys that this version does not know are ignored.

    Raises:
        Rejected: not an impression.
    """
    return _with_binary_ids(decode_plain(form, value, Impression), Impression)


def encode_ad(ad: Ad, form: Format = JSON) -> bytes:
    """The value on `ads`."""
    return form.write(ad, AdBody)


def encode_delivery(delivery: Delivery, form: Format = JSON) -> bytes:
    """The value on `ads-control`."""
    return form.write(delivery, Delivery)


def encode_tick(tick: ClockTick, form: Format = JSON) -> bytes:
    """The value on `ads-control` under `CLOCK_KEY`."""
    return form.write(tick, ClockTick)


def encode_event(event: UserEvent, form: Format = JSON) -> bytes:
    """The value on `user-events`."""
    ad_id = None if event.ad_id is None else str(event.ad_id)
    body = EventBody(
        event.event_id, event.action, event.time_ms, ad_id, event.value, event.features
    )
    return form.write(body, EventBody)


def encode_request(request: ScoreRequest, form: Format = JSON) -> bytes:
    """The value on `score-requests`, and the body of `POST /v1/score`."""
    return form.write(_with_decimal_ids(request), ScoreRequest)


def encode_response(response: ScoreResponse, form: Format = JSON) -> bytes:
    """The value on `score-responses`, and the answer of `POST /v1/score`."""
    return form.write(_with_decimal_ids(response), ScoreResponse)


def encode_explanation(explanation: Explanation) -> bytes:
    """The answer of `POST /v1/explain`; JSON."""
    body = msgspec.to_builtins(explanation, str_keys=True)
    body.update({key: str(body[key]) for key in ("user_id", "ad_id")})
    return JSON.write(body, Explanation)


def encode_impression(impression: Impression, form: Format = JSON) -> bytes:
    """The value on `impressions`."""
    return form.write(_with_decimal_ids(impression), Impression)


def _request_body(value: bytes | None, form: Format) -> dict[str, Any]:
    with _answerable({}):
        if value is None:
            raise Rejected(Reason.NULL_VALUE, "a request cannot be deleted")
        body = decode_plain(form, value, ScoreRequest)
        if not isinstance(body, dict):
            raise Rejected(Reason.INVALID_FIELD, "a request is a map of its fields")
        return body


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1e3, UTC).isoformat(" ", "seconds")


def _request(body: dict[str, Any], unknown_keys: Counter[str] | None) -> ScoreRequest:
    ids: dict[str, Any] = {"user_id": _field_id(body.get("user_id"), "user_id")}
    candidates = body.get("candidates")
    if isinstance(candidates, list):
        ids["candidates"] = [_field_id(ad_id, "candidates") for ad_id in candidates]
    cap = body.get("frequency_cap")
    if isinstance(cap, dict) and isinstance(seen := cap.get("seen"), dict):
        by_id = {_field_id(ad_id, "frequency_cap.seen"): times for ad_id, times in seen.items()}
        ids["frequency_cap"] = {**cap, "seen": by_id}
    request = convert({**body, **ids}, ScoreRequest, SCORE_REQUESTS, unknown_keys)
    for fields in (request.user, request.context, request.filters):
        check_names(fields)
    check_count((*request.user.values(), *request.context.values()))
    return request


@contextmanager
def _answerable(body: dict[str, Any]) -> Iterator[None]:
    """Give a rejection the ids that the request shows, whatever else is wrong with it."""
    try:
        yield
    except Rejected as error:
        request_id = body.get("request_id")
        if not isinstance(request_id, str) or not request_id:
            request_id = None
        try:
            user_id = _field_id(body.get("user_id"), "user_id")
        except Rejected:
            user_id = None
        raise RequestRejected(error.reason, error.detail, request_id, user_id) from None


def _with_binary_ids(body: Any, record: type[Record]) -> Record:
    try:
        body["user_id"] = _field_id(body["user_id"], "user_id")
        for ad in body.get("ads", ()):
            ad["ad_id"] = _field_id(ad["ad_id"], "ad_id")
        return msgspec.convert(body, record, str_keys=True)
    except (AttributeError, TypeError, KeyError, msgspec.ValidationError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise Rejected(Reason.INVALID_FIELD, detail) from None


def _with_decimal_ids(record: ScoreRequest | ScoreResponse | Impression) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(record, str_keys=True)
    body["user_id"] = str(body["user_id"])
    for ad in body.get("ads", ()):
        ad["ad_id"] = str(ad["ad_id"])
    candidates = body.get("candidates")
    if isinstance(candidates, list | tuple):
        body["candidates"] = [str(ad_id) for ad_id in candidates]
    return body


def _key_id(key: bytes | None) -> int:
    if key is None:
        raise Rejected(Reason.NULL_KEY, "the key must be an id")
    try:
        # Latin-1 gives every byte a character, so that parse_id alone decides.
        return parse_id(key.decode("latin-1"))
    except ValueError as error:
        raise Rejected(Reason.BAD_KEY, str(error)) from None


def _field_id(value: Any, field: str) -> int:
    if not isinstance(value, str):
        raise Rejected(Reason.INVALID_FIELD, f"{field}: an id is a decimal string")
    try:
        return parse_id(value)
    except ValueError as error:
        raise Rejected(Reason.INVALID_FIELD, f"{field}: {error}") from None


def _header_version(headers: Iterable[tuple[str, bytes | None]]) -> int:
    version = NEXT_VERSION
    for name, value in headers:
        if name == VERSION_HEADER:
            try:
                version = parse_id((value or b"").decode("latin-1"))
            except ValueError:
                detail = f"{VERSION_HEADER}: {_short(value)} is not a version"
                raise Rejected(Reason.BAD_VERSION, detail) from None
    return version


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

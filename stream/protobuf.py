"""Protobuf messages to the records' plain data and back.

Owns which message stands for which record, and the few places where Protobuf cannot say what JSON
does: a map's values cannot be lists, so that each is a message around one. Promises the same plain
data as JSON would give, keys that the schema does not know included (by field number), so that they
are counted as JSON's are. The schema is `stream.wire`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import Struct

from .bodies import AdBody, EventBody
from .records import ClockTick, Delivery, Impression, ScoreRequest, ScoreResponse
from .wire import headwater_pb2 as wire

MESSAGES: Final[Mapping[type[Struct], type[Message]]] = {
    AdBody: wire.Ad,
    Delivery: wire.Delivery,
    ClockTick: wire.ClockTick,
    EventBody: wire.UserEvent,
    ScoreRequest: wire.ScoreRequest,
    ScoreResponse: wire.ScoreResponse,
    Impression: wire.Impression,
}

_Read = Callable[[Any], Any]


def read(value: bytes, record: type[Struct]) -> dict[str, Any]:
    """The plain data of `record` in `value`.

    Raises:
        ValueError: not its message.
    """
    try:
        return _plain(MESSAGES[record].FromString(value))
    except DecodeError as error:
        raise ValueError(str(error)) from None


def write(body: Mapping[str, Any], record: type[Struct]) -> bytes:
    """The message of a record's plain data."""
    return _fill(MESSAGES[record](), body).SerializeToString()


def _plain(message: Message) -> dict[str, Any]:
    """A message as a dict of the fields that are set, and those unknown by number."""
    body: dict[str, Any] = {}
    for field, value in message.ListFields():
        convert = _reader(field)
        body[field.name] = value if convert is None else convert(value)
    unknown = UnknownFieldSet(message)
    for at in range(len(unknown)):
        body[str(unknown[at].field_number)] = None
    return body


def _values(message: wire.Values) -> list[str]:
    return message.values[:]


def _features(message: wire.Features) -> list[str] | dict[str, float]:
    weights = message.weights[:]
    values = message.values[:]
    if not weights:
        return values
    if len(weights) != len(values):
        raise ValueError(f"features: {len(weights)} weights for {len(values)} values")
    return dict(zip(values, weights, strict=True))


def _weights(message: wire.Weights) -> dict[str, float]:
    return dict(message.weights)


def _offsets(message: wire.Offsets) -> dict[int, int]:
    return dict(message.next)


def _seen(message: wire.Seen) -> dict[str, int]:
    return dict(message.times)


def _candidates(message: wire.Candidates) -> int | list[str]:
    return message.limit if message.HasField("limit") else message.ad_ids[:]


_READ_MESSAGE: Final[Mapping[str, _Read]] = {
    "Values": _values,
    "Features": _features,
    "Weights": _weights,
    "Offsets": _offsets,
    "Seen": _seen,
    "Candidates": _candidates,
}


@cache
def _reader(field: FieldDescriptor) -> _Read | None:
    """How the value of a field becomes plain data; None when it is already."""
    kind = field.message_type
    if kind is None:
        return list if field.is_repeated else None
    if _is_map(kind):
        of_value = _reader(kind.fields_by_name["value"])
        return dict if of_value is None else _map_of(of_value)
    convert = _READ_MESSAGE.get(kind.name, _plain)
    return _list_of(convert) if field.is_repeated else convert


def _list_of(read: _Read) -> _Read:
    return lambda messages: [read(message) for message in messages]


def _map_of(read: _Read) -> _Read:
    return lambda messages: {key: read(value) for key, value in messages.items()}


def _fill(message: Message, body: Mapping[str, Any]) -> Message:
    """Set the fields of `message` to plain data; what is None stays unset."""
    for name, value in body.items():
        if value is not None:
            _set(message, name, value)
    return message


def _set(message: Message, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    kind = field.message_type
    if kind is None and not field.is_repeated:
        setattr(message, name, value)
        return
    place = getattr(message, name)
    if kind is None:
        place.extend(value)
    elif _is_map(kind) and kind.fields_by_name["value"].message_type is None:
        place.update(value)
    elif _is_map(kind):
        for key, inner in value.items():
            _fill_message(place[key], inner)
    elif field.is_repeated:
        for inner in value:
            _fill_message(place.add(), inner)
    else:
        _fill_message(place, value)


def _fill_message(message: Message, value: Any) -> None:
    message.SetInParent()  # an empty message says something else than none
    match message:
        case wire.Values():
            message.values.extend(value)
        case wire.Features():
            message.values.extend(value)
            if isinstance(value, Mapping) and any(weight != 1.0 for weight in value.values()):
                message.weights.extend(value.values())
        case wire.Weights():
            message.weights.update(value)
        case wire.Offsets():
            message.next.update({int(partition): offset for partition, offset in value.items()})
        case wire.Seen():
            message.times.update(value)
        case wire.Candidates() if isinstance(value, int):
            message.limit = value
        case wire.Candidates():
            message.ad_ids.extend(value)
        case _:
            _fill(message, value)


@cache
def _is_map(kind: Descriptor) -> bool:
    return bool(kind.GetOptions().map_entry)

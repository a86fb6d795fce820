"""Strict reading: bytes to one struct, unknown keys left out and counted.

Owns the two readings. The first is by the format's typed decoder, which forbids unknown keys, so
that a record without any pays nothing for the count. Only a record that fails it is read again as
plain data, without the keys that the struct does not have. Promises a valid struct or a `Rejected`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sized
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from .errors import Reason, Rejected
from .formats import Format, Record
from .records import MAX_FEATURES, FrequencyCap, Rule

# The structs inside a record's value: rules by field name, and one of its own.
_RULE_FIELDS: Final = ("targeting", "filters")
_CAP_FIELD: Final = "frequency_cap"


def decode(
    form: Format,
    value: bytes,
    record: type[Record],
    topic: str,
    unknown_keys: Counter[str] | None,
) -> Record:
    """The struct in `value`; its unknown keys are added to `unknown_keys[topic]`.

    Args:
        form: the format of `value`.
        value: the bytes.
        record: a struct that forbids unknown fields.
        topic: the counter's key.
        unknown_keys: None counts nothing.

    Raises:
        Rejected: not in this format, or not this struct.
    """
    try:
        return form.read(value, record)
    except msgspec.ValidationError:
        return convert(decode_plain(form, value, record), record, topic, unknown_keys)
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.UNDECODABLE, str(error)) from None


def decode_plain(form: Format, value: bytes, record: type[Struct]) -> Any:
    """Whatever is in `value`, as Python's own types.

    Raises:
        Rejected: not in this format.
    """
    try:
        return form.read_plain(value, record)
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.UNDECODABLE, str(error)) from None


def convert(
    body: Any, record: type[Record], topic: str, unknown_keys: Counter[str] | None
) -> Record:
    """As `decode`, from what `decode_plain` read; `body` loses its unknown keys."""
    unknown = _drop_unknown(body, record)
    try:
        struct = msgspec.convert(body, record, str_keys=True)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.INVALID_FIELD, str(error)) from None
    if unknown and unknown_keys is not None:
        unknown_keys[topic] += unknown
    return struct


def check_names(fields: Mapping[str, object]) -> None:
    """Refuse field names that a feature's key could not be split at.

    A feature's key is "field=value", split at the first "=": a field that holds one would be taken
    for another field.
    """
    if "" in fields or "=" in "".join(fields):
        raise Rejected(Reason.INVALID_FIELD, 'a field name is empty or contains "="')


def check_count(features: Iterable[Sized]) -> None:
    """Refuse more values, over all fields, than a record may have."""
    count = sum(map(len, features))
    if count > MAX_FEATURES:
        raise Rejected(Reason.TOO_MANY_FEATURES, f"{count} features, at most {MAX_FEATURES}")


def _drop_unknown(body: Any, record: type[Struct]) -> int:
    """Remove from `body`, in place, the keys that `record` does not have; says how many."""
    if not isinstance(body, dict):
        return 0
    unknown = body.keys() - _fields(record)
    for key in unknown:
        del body[key]
    count = len(unknown)
    for field in _RULE_FIELDS:
        rules = body.get(field)
        if isinstance(rules, dict):
            count += sum(_drop_unknown(rule, Rule) for rule in rules.values())
    return count + _drop_unknown(body.get(_CAP_FIELD), FrequencyCap)


@cache
def _fields(record: type[Struct]) -> frozenset[str]:
    return frozenset(record.__struct_fields__)

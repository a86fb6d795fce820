"""Formats: bytes to plain data or to one struct, and back.

Owns JSON, MessagePack and Protobuf, the content types that name them, and which of them a record is
in. Promises one data model: the same keys and the same types of values in every format, ids as
decimal strings included, so that whoever knows a record in one format knows it in all. Whether the
values make a valid record is for the struct's own types and `stream.codec` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from . import protobuf
from .errors import Reason, Rejected

CONTENT_TYPE_HEADER: Final = "content-type"

FormatName = Literal["json", "msgpack", "protobuf"]

Record = TypeVar("Record", bound=Struct)


class Format(Protocol):
    """One way to write any record.

    Reading raises `msgspec.ValidationError` when the bytes hold data that is not the record, and
    another ValueError or a RecursionError when they are not in this format at all.
    """

    content_type: str
    """What the header says of records in this format."""

    def read(self, value: bytes, record: type[Record]) -> Record:
        """The struct in `value`."""

    def read_plain(self, value: bytes, record: type[Struct]) -> Any:
        """What is in `value` as dicts, lists and scalars, valid or not."""

    def write(self, body: Any, record: type[Struct]) -> bytes:
        """The bytes of `body`: a `record`, or its plain data."""


class _Typed:
    """A format whose bytes msgspec reads into structs without a step between."""

    def __init__(
        self,
        content_type: str,
        make_decoder: Callable[[Any], Any],
        encode: Callable[[Any], bytes],
    ) -> None:
        self.content_type = content_type
        self._decode = _DecodeByRecord(make_decoder)
        self._encode = encode

    def read(self, value: bytes, record: type[Record]) -> Record:
        return self._decode[record](value)  # type: ignore[no-any-return]

    def read_plain(self, value: bytes, record: type[Struct]) -> Any:
        return self._decode[Any](value)

    def write(self, body: Any, record: type[Struct]) -> bytes:
        return self._encode(body)


class _DecodeByRecord(dict[Any, Callable[[bytes], Any]]):
    """The typed decoder of each record, made when it is first asked for."""

    def __init__(self, make_decoder: Callable[[Any], Any]) -> None:
        self._make_decoder = make_decoder

    def __missing__(self, record: Any) -> Callable[[bytes], Any]:
        decode: Callable[[bytes], Any] = self._make_decoder(record).decode
        self[record] = decode
        return decode


class _Protobuf:
    content_type = "application/x-protobuf"

    def read(self, value: bytes, record: type[Record]) -> Record:
        return msgspec.convert(protobuf.read(value, record), record, str_keys=True)

    def read_plain(self, value: bytes, record: type[Struct]) -> Any:
        return protobuf.read(value, record)

    def write(self, body: Any, record: type[Struct]) -> bytes:
        return protobuf.write(msgspec.to_builtins(body, str_keys=True), record)


JSON: Final[Format] = _Typed(
    "application/json", msgspec.json.Decoder, msgspec.json.Encoder().encode
)
MSGPACK: Final[Format] = _Typed(
    "application/msgpack", msgspec.msgpack.Decoder, msgspec.msgpack.Encoder().encode
)
PROTOBUF: Final[Format] = _Protobuf()

FORMATS: Final[dict[FormatName, Format]] = {
    "json": JSON,
    "msgpack": MSGPACK,
    "protobuf": PROTOBUF,
}
# What other producers call them, beside the formats' own.
_BY_CONTENT_TYPE: Final = {
    JSON.content_type: JSON,
    MSGPACK.content_type: MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    PROTOBUF.content_type: PROTOBUF,
    "application/protobuf": PROTOBUF,
}
_BY_HEADER: Final = {name.encode(): form for name, form in _BY_CONTENT_TYPE.items()}


def format_of(headers: Iterable[tuple[str, bytes | None]], default: Format) -> Format:
    """The format that a record's `content-type` header names; without one, `default`.

    Raises:
        Rejected: the header names none that is known here.
    """
    for name, value in headers:
        if name == CONTENT_TYPE_HEADER:
            known = _BY_HEADER.get(value or b"")
            known = known or by_content_type((value or b"").decode("latin-1"))
            if known is None:
                detail = f"{CONTENT_TYPE_HEADER} {value!r}; known are {', '.join(_BY_CONTENT_TYPE)}"
                raise Rejected(Reason.UNKNOWN_FORMAT, detail)
            return known
    return default


def by_content_type(text: str) -> Format | None:
    """The format of a content type, whatever its case and parameters; None for an unknown one."""
    return _BY_CONTENT_TYPE.get(text.partition(";")[0].strip().lower())


def header_of(form: Format) -> tuple[str, bytes]:
    """The header that says that a record is in this format."""
    return CONTENT_TYPE_HEADER, form.content_type.encode()

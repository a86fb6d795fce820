"""Training tables: the Arrow tables that both models learn from.

Owns their columns. Promises that a checked set of tables has every column a schema asks for, in
the right type. Where rows come from is the data set reader's affair.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .schema import Schema

_EVENTS = {
    "user_id": pa.int64(),
    "time_ms": pa.int64(),
    "action": pa.string(),
    "value": pa.float64(),
}
_USERS = {"user_id": pa.int64()}
_ADS = {"ad_id": pa.int64(), "week": pa.int32(), "start_ms": pa.int64(), "end_ms": pa.int64()}
_VISITS = {
    "user_id": pa.int64(),
    "time_ms": pa.int64(),
    "visit_id": pa.int64(),
    "ad_id": pa.int64(),
    "engage": pa.int8(),
    "consume": pa.int8(),
}


RETRIEVAL = "retrieval"
"""The column of visits that holds the score with which the ad was retrieved; it may be absent."""


class TablesInvalid(ValueError):
    """A training table lacks a column, or a column has another type."""


@dataclass(frozen=True)
class TrainingTables:
    """One period of one population's data.

    Attributes:
        events: user_id int64, time_ms int64, action string, value float64, and string columns for
            item and context fields that events carry. Null = missing.
        users: user_id int64 and the profile fields as strings. Null = unknown.
        ads: one row per ad and week it was live: ad_id int64, week int32, start_ms and end_ms
            int64 (live from start_ms until before end_ms), item fields as strings.
        visits: one row per ad a user could see: user_id int64, time_ms int64 (features are as of
            this time), visit_id int64, ad_id int64, item and context fields as strings, the labels
            engage and consume, int8 0 or 1, and where ads were retrieved the score, `RETRIEVAL`.
    """

    events: pa.Table
    users: pa.Table
    ads: pa.Table
    visits: pa.Table

    def check(self, schema: Schema) -> None:
        """Check columns and types against a schema.

        Raises:
            TablesInvalid: names the table and the column.
        """
        items = schema.item_fields
        # Events need not carry every item field (a purchase has no mailer slot), but without the
        # item itself they teach nothing.
        for name, columns, fields in (
            ("events", _EVENTS, items[:1]),
            ("users", _USERS, schema.profile_fields),
            ("ads", _ADS, items),
            ("visits", _VISITS, items),
        ):
            table: pa.Table = getattr(self, name)
            sources = (schema.read_from(f, table.column_names) or schema.source(f) for f in fields)
            texts = dict.fromkeys((source for source in sources if source), pa.string())
            for column, type_ in (columns | texts).items():
                if column not in table.column_names:
                    raise TablesInvalid(f"{name}: column {column!r} is missing")
                found = table.schema.field(column).type
                if not _agrees(found, type_):
                    raise TablesInvalid(f"{name}.{column} is {found}, expected {type_}")

    def before(self, time_ms: int) -> TrainingTables:
        """What was known before a time: earlier events and visits, ads that had gone live."""
        return replace(
            self,
            events=self.events.filter(pc.less(self.events["time_ms"], time_ms)),
            ads=self.ads.filter(pc.less(self.ads["start_ms"], time_ms)),
            visits=self.visits.filter(pc.less(self.visits["time_ms"], time_ms)),
        )

    def fingerprint(self) -> str:
        """16 hex digits that differ whenever a row, a value or a column does."""
        digest = hashlib.sha256()
        for table in (self.events, self.users, self.ads, self.visits):
            with pa.ipc.new_stream(_Digested(digest), table.schema) as stream:
                stream.write_table(table)
        return digest.hexdigest()[:16]

    def window(self) -> dict[str, int]:
        """First and last event time, for a checkpoint's manifest."""
        if not self.events.num_rows:
            return {}
        times = pc.min_max(self.events["time_ms"])
        return {"first_ms": times["min"].as_py(), "last_ms": times["max"].as_py()}


class _Digested(io.RawIOBase):
    """A file whose bytes go nowhere but into a digest."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return memoryview(content).nbytes


def _agrees(found: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_string(expected):
        value = found.value_type if pa.types.is_dictionary(found) else found
        return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
    return bool(found == expected)

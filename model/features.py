"""Features: strings become raw ids, for training tables and for single requests alike.

Owns the hash from an exact feature key `field=value` to a raw id (int64 >= 1; 0 = missing).
Promises the same raw id in every process and on every machine for one schema, and the same from a
record as from a table. Rows of embedding tables are each model's own affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .derived import ClockPart
from .schema import Schema

# One history of a thousand events asks for 7,000 ids, nearly all of them seen before: a dictionary
# answers in a tenth of the time that hashing takes. Bounded, because values come from outside.
CACHED_VALUES = 1 << 20

Event = tuple[int, str, float, Mapping[str, Iterable[str]]]
"""One event: (time_ms, action, value, features by field)."""


@dataclass(frozen=True)
class History:
    """What one user did, oldest first; L events, F item fields.

    Attributes:
        time_ms: [L] int64, not decreasing.
        actions: [L] int32 action ids (`Schema.action_id`).
        values: [L] float32, the event's value (money for a purchase).
        items: [L, F] int64 raw ids, 0 = missing.
    """

    time_ms: np.ndarray
    actions: np.ndarray
    values: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.time_ms)

    def before(self, time_ms: int) -> History:
        """The events strictly before a time."""
        return self[: int(np.searchsorted(self.time_ms, time_ms, side="left"))]

    def after(self, time_ms: int) -> History:
        """The events strictly after a time."""
        return self[int(np.searchsorted(self.time_ms, time_ms, side="right")) :]

    def newest(self, events: int) -> History:
        """At most the given number of events, the newest ones."""
        return self[max(len(self) - events, 0) :]

    def __getitem__(self, rows: slice) -> History:
        return History(self.time_ms[rows], self.actions[rows], self.values[rows], self.items[rows])


@dataclass(frozen=True)
class Request:
    """One user's side of a request.

    Attributes:
        profile: [U] int64 raw ids in the order of the schema's profile fields.
        context: [C] int64 raw ids in the order of the schema's context fields.
        now_ms: the request's time; the models read only events strictly before it.
        history: the user's events.
    """

    profile: np.ndarray
    context: np.ndarray
    now_ms: int
    history: History


class Encoder:
    """Turns strings into raw ids by one schema. Safe to share between threads."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._key = schema.hash_seed.to_bytes(8, "little")
        self._known: dict[str, dict[str, int]] = {}
        self._actions = {action: schema.action_id(action) for action in schema.actions}

    def raw_id(self, key: str) -> int:
        """Raw id of an exact feature key `field=value`.

        Raises:
            ValueError: the key has no "=".
        """
        field, separator, value = key.partition("=")
        if not separator:
            raise ValueError(f"feature key {key!r} has no '='")
        return self._value_id(field, value)

    def items(self, features: Sequence[Mapping[str, Iterable[str]]]) -> np.ndarray:
        """Encode items by their features.

        Args:
            features: B mappings from field to its values; of several values of one field the
                first is read, a field without one is missing.

        Returns:
            [B, F] int64 raw ids.
        """
        return self._rows(features, self.schema.item_fields)

    def history(self, events: Sequence[Event]) -> History:
        """Encode one user's events; those out of order are put in order of time.

        Args:
            events: L events (time_ms, action, value, features by field).
        """
        times = np.fromiter((event[0] for event in events), np.int64, len(events))
        history = History(
            times,
            np.fromiter((self._actions.get(event[1], 0) for event in events), np.int32, len(times)),
            np.fromiter((event[2] for event in events), np.float32, len(times)),
            self.items([event[3] for event in events]),
        )
        if np.any(times[1:] < times[:-1]):
            # Stable: events of one millisecond keep the order in which they were given.
            order = np.argsort(times, kind="stable")
            history = History(
                times[order], history.actions[order], history.values[order], history.items[order]
            )
        return history

    def profile(self, values: Mapping[str, Iterable[str]]) -> np.ndarray:
        """[U] int64 raw ids of a user's profile; an absent field is missing (0)."""
        return self._rows([values], self.schema.profile_fields).reshape(-1)

    def context(self, values: Mapping[str, Iterable[str]], now_ms: int) -> np.ndarray:
        """[C] int64 raw ids of a request's context at its time; an absent field is missing (0)."""
        context = self._rows([values], self.schema.context_fields)
        self._read_clock(context, self.schema.context_fields, np.array([now_ms], np.int64))
        return context.reshape(-1)

    def items_from_table(self, table: pa.Table) -> np.ndarray:
        """[B, F] int64 raw ids of a table's item columns; an absent column is missing (0)."""
        return self._columns(table, self.schema.item_fields)

    def profiles_from_table(self, table: pa.Table) -> np.ndarray:
        """[B, U] int64 raw ids of a table's profile columns; an absent column is missing (0)."""
        return self._columns(table, self.schema.profile_fields)

    def contexts_from_table(self, table: pa.Table) -> np.ndarray:
        """[B, C] int64 raw ids of a table's context columns, as of its `time_ms`; an absent column
        is missing (0)."""
        contexts = self._columns(table, self.schema.context_fields)
        times = table.column("time_ms").to_numpy()
        self._read_clock(contexts, self.schema.context_fields, times)
        return contexts

    def actions_from_table(self, table: pa.Table) -> np.ndarray:
        """[B] int32 action ids of a table's `action` column."""
        codes, values = _dictionary(table.column("action"))
        ids = np.asarray([0, *(self._actions.get(value, 0) for value in values)], np.int32)
        return ids.take(codes + 1)

    def _rows(
        self, features: Sequence[Mapping[str, Iterable[str]]], names: tuple[str, ...]
    ) -> np.ndarray:
        out = np.zeros((len(features), len(names)), np.int64)
        for column, name in enumerate(names):
            if name in self.schema.derived:
                out[:, column] = [self._derived_id(name, values) for values in features]
                continue
            known = self._known.setdefault(name, {})
            for row, values in enumerate(features):
                value = next(iter(values.get(name, ())), None)
                if value is not None:
                    out[row, column] = known.get(value) or self._value_id(name, value)
        return out

    def _columns(self, table: pa.Table, names: tuple[str, ...]) -> np.ndarray:
        out = np.zeros((table.num_rows, len(names)), np.int64)
        for column, name in enumerate(names):
            source = self.schema.read_from(name, table.column_names)
            if source is not None:
                codes, values = _dictionary(table.column(source))
                ids = [0, *(self._id_from(source, name, value) for value in values)]
                out[:, column] = np.asarray(ids, np.int64)[codes + 1]
        return out

    def _read_clock(self, out: np.ndarray, names: tuple[str, ...], time_ms: np.ndarray) -> None:
        """Fill the columns of an encoded array that are parts of the time."""
        for column, name in enumerate(names):
            derivation = self.schema.derived.get(name)
            if isinstance(derivation, ClockPart):
                codes, values = derivation.values(time_ms)
                ids = np.array([self._value_id(name, value) for value in values], np.int64)
                out[:, column] = ids[codes]

    def _derived_id(self, name: str, values: Mapping[str, Iterable[str]]) -> int:
        source = self.schema.read_from(name, values)
        text = None if source is None else next(iter(values[source]), None)
        return 0 if source is None or text is None else self._id_from(source, name, text)

    def _id_from(self, source: str, name: str, text: str) -> int:
        """Raw id of a field by the text of what it is read from; 0 where none can be made."""
        derivation = self.schema.derived.get(name)
        if source == name or derivation is None or isinstance(derivation, ClockPart):
            return self._value_id(name, text)
        value = derivation.value(text)
        return 0 if value is None else self._value_id(name, value)

    def _value_id(self, field: str, value: str) -> int:
        known = self._known.setdefault(field, {})
        found = known.get(value)
        if found is None:
            digest = hashlib.blake2b(
                f"{field}={value}".encode("utf-8", "surrogatepass"), digest_size=8, key=self._key
            ).digest()
            found = (int.from_bytes(digest, "little") >> 1) or 1
            if len(known) >= CACHED_VALUES:
                known.clear()
            known[value] = found
        return found


def _dictionary(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A string column as codes into its distinct values; null is code -1."""
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary.to_pylist()

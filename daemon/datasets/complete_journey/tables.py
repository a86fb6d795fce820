"""The tables: purchases as events, featured products as ads, households as users, visits.

Owns the columns that training and replay read, and the sampling of what a visit passed over.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.tables import TrainingTables

from .exposures import Exposures, ad_ids, exposures, extents, products_of
from .fields import ACTION, PRODUCT_FIELDS, PROFILE_FIELDS, SLOTS
from .weeks import FIRST_WEEK, LAST_WEEK, week_starts_ms
from .wheel import Ints, demographics, placements, products, purchases, texts

# The rule of the ranking split that figures on this data are compared on: with fewer baskets, or
# earlier in the year, a history says too little to learn from.
MIN_BASKETS = 10
FIRST_VISIT_WEEK = 10
NEGATIVES_PER_POSITIVE = 20
SAMPLING_SEED = 0

_AD_BITS = 40
_DISPLAY_STEPS = 10


def training_tables(
    until_week: int, negatives_per_positive: int = NEGATIVES_PER_POSITIVE
) -> TrainingTables:
    """What was known at the start of `until_week`, for both models to learn from.

    One thing is not: which households the visits are of is decided by their baskets in the whole
    year, so that figures are comparable with others on this data.
    """
    return TrainingTables(
        events=events(until_week),
        users=users(),
        ads=ads(until_week=until_week),
        visits=visits(until_week, negatives_per_positive),
    )


def events(until_week: int = LAST_WEEK + 1) -> pa.Table:
    """Every line of every basket before `until_week`, oldest first.

    Returns:
        user_id int64, time_ms int64, action, value float64 (money paid), ad_id int64 (the ad of
        that product in that store and week, null if it was not featured), and the EVENT_FIELDS
        as strings. A row keeps its number whatever `until_week` is.
    """
    lines = purchases().filter(pc.field("week") < until_week)
    product = lines["product_id"].to_numpy()
    shown = exposures()
    row = shown.find(lines["week"].to_numpy(), lines["store_id"].to_numpy(), product)
    action = pa.DictionaryArray.from_arrays(np.zeros(lines.num_rows, np.int32), [ACTION])
    return pa.table(
        {
            "user_id": lines["household_id"],
            "time_ms": lines["time_ms"],
            "action": action,
            "value": lines["sales_value"],
            "ad_id": pa.array(shown.ad_id[row], mask=row < 0),
            **product_columns(product),
            "store": texts(lines["store_id"]),
            "quantity": texts(lines["quantity"]),
        }
    )


def users() -> pa.Table:
    """Every household that ever bought: user_id int64 and the PROFILE_FIELDS as strings."""
    households = pa.table({"household_id": np.unique(purchases()["household_id"].to_numpy())})
    profiles = households.join(demographics(), "household_id").sort_by("household_id")
    fields = {field: texts(profiles[field]) for field in PROFILE_FIELDS}
    return pa.table({"user_id": profiles["household_id"], **fields})


def ads(from_week: int = FIRST_WEEK, until_week: int = LAST_WEEK + 1) -> pa.Table:
    """The ads of from_week up to until_week - 1, by week and ad id.

    An ad is a product in a mailer slot, and it is live in a week in which any store features it.

    Returns:
        ad_id int64 (product * 10 + the slot's code), week int32, start_ms and end_ms int64 (its
        flight is the whole week), and the ITEM_FIELDS as strings.
    """
    in_weeks = (pc.field("week") >= from_week) & (pc.field("week") < until_week)
    table = placements().filter(in_weeks)
    keys = np.unique(table["week"].to_numpy() << _AD_BITS | ad_ids(table))
    week, ad_id = keys >> _AD_BITS, keys & (1 << _AD_BITS) - 1
    return pa.table(
        {
            "ad_id": ad_id,
            "week": week.astype(np.int32),
            "start_ms": week_starts_ms()[week],
            "end_ms": week_starts_ms()[week + 1],
            **_item_columns(week, ad_id),
        }
    )


def visits(
    until_week: int = LAST_WEEK + 1, negatives_per_positive: int = NEGATIVES_PER_POSITIVE
) -> pa.Table:
    """What visits were shown and what they bought of that.

    A visit is a household in a store in a week, from FIRST_VISIT_WEEK on, that bought at least one
    ad featured there and then; the household has MIN_BASKETS baskets in the year. Its rows are the
    ads that it bought and a uniform sample of those that it passed over. The sample is drawn in
    order of time from a fixed seed, so that a later `until_week` only appends rows.

    Returns:
        user_id int64, time_ms int64 (start of the week: features are as of then), visit_id int64
        (ascending; a visit's rows are adjacent), week int32, the CONTEXT_FIELDS as strings, ad_id
        int64, the ITEM_FIELDS as strings, engage int8 (bought at that visit), consume int8 (two
        or more).
    """
    shown = exposures()
    line, bought, quantity = _bought(shown, until_week)
    firsts = np.flatnonzero(np.diff(line, prepend=-1))
    passed = _passed_over(shown, np.split(bought, firsts)[1:], negatives_per_positive)

    visit_of_bought = np.cumsum(np.diff(line, prepend=-1) > 0) - 1
    visit_of_passed = np.repeat(
        np.arange(len(passed)), np.array([len(rows) for rows in passed], np.int64)
    )
    visit = np.concatenate([visit_of_bought, visit_of_passed])
    order = np.argsort(visit, kind="stable")
    visit, row = visit[order], np.concatenate([bought, *passed])[order]
    engage = order < len(bought)
    consume = engage & (np.append(quantity, np.zeros(len(row) - len(bought)))[order] >= 2)

    household = purchases()["household_id"].to_numpy()[line[firsts]]
    return pa.table(
        {
            "user_id": household[visit],
            "time_ms": week_starts_ms()[shown.week[row]],
            "visit_id": visit,
            "week": shown.week[row].astype(np.int32),
            "store": texts(pa.array(shown.store[row])),
            "flyer": _steps(2 * np.log2(shown.listed(row))),
            "ad_id": shown.ad_id[row],
            **_item_columns(shown.week[row], shown.ad_id[row]),
            "engage": engage.astype(np.int8),
            "consume": consume.astype(np.int8),
        }
    )


def _bought(shown: Exposures, until_week: int) -> tuple[Ints, Ints, Ints]:
    """The featured ads that visits bought.

    Returns:
        For each (visit, ad), by time of the visit and then by row: the visit as the number of its
        first line, the ad as its row in `shown`, and how many were bought. Each [P] int64.
    """
    every = purchases()
    lines = every.filter(pc.field("week") < until_week)
    household, store, week, product, quantity = (
        lines[name].to_numpy()
        for name in ("household_id", "store_id", "week", "product_id", "quantity")
    )
    visit_key = np.unique(household, return_inverse=True)[1] << 32 | store << 8 | week
    _, first_line, visit = np.unique(visit_key, return_index=True, return_inverse=True)

    baskets = every.group_by("household_id").aggregate([("basket_id", "count_distinct")])
    steady = baskets.filter(pc.field("basket_id_count_distinct") >= MIN_BASKETS)
    row = shown.find(week, store, product)
    kept = (row >= 0) & (week >= FIRST_VISIT_WEEK)
    kept &= np.isin(household, steady["household_id"].to_numpy())

    pair_key = first_line[visit[kept]] << 32 | row[kept]
    pairs, pair = np.unique(pair_key, return_inverse=True)
    totals = np.bincount(pair, quantity[kept], len(pairs)).astype(np.int64)
    return pairs >> 32, pairs & (1 << 32) - 1, totals


def _passed_over(shown: Exposures, visits: list[Ints], per_positive: int) -> list[Ints]:
    """For each visit's bought rows, a sample of the rows beside them."""
    draw = np.random.default_rng(SAMPLING_SEED)
    samples = []
    for bought in visits:
        low, high = shown.beside(bought[0])
        passed = np.delete(np.arange(low, high), bought - low)
        wanted = min(len(passed), per_positive * len(bought))
        samples.append(draw.choice(passed, wanted, replace=False))
    return samples


def product_columns(product_ids: Ints) -> dict[str, pa.ChunkedArray]:
    """The PRODUCT_FIELDS of products."""
    ids, fields = products()
    taken = fields.take(np.searchsorted(ids, product_ids))
    return {field: taken[field] for field in PRODUCT_FIELDS}


def _item_columns(week: Ints, ids: Ints) -> dict[str, pa.ChunkedArray | pa.Array]:
    slot = np.searchsorted(list(SLOTS.values()), ids % 10).astype(np.int32)
    listed, displayed = extents(week, ids)
    return {
        **product_columns(products_of(ids)),
        "slot": pa.DictionaryArray.from_arrays(slot, list(SLOTS)),
        "reach": _steps(2 * np.log2(listed)),
        "display": _steps(_DISPLAY_STEPS * displayed / listed),
    }


def _steps(values: NDArray[np.floating]) -> pa.Array:
    """Numbers as dictionary-encoded strings of the nearest integers."""
    return texts(pa.array(values.round().astype(np.int64)))

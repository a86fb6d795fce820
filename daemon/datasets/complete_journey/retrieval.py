"""The retrieval split: what is known, and what each household then buys of 8,987 items.

Owns the rules that figures on this data are compared under: which items are ranked, which
households are asked about, and which of their items count in November (validate) and in December
(test). Promises the same rows on every call. Measuring anything on them is `daemon.evaluation`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.tables import TrainingTables

from .fields import ITEM_FIELDS
from .tables import events, product_columns, users, visits
from .weeks import FIRST_WEEK
from .wheel import Ints, products, purchases

NOVEMBER_MS: Final = round(datetime(2017, 11, 1, tzinfo=UTC).timestamp() * 1000)
DECEMBER_MS: Final = round(datetime(2017, 12, 1, tzinfo=UTC).timestamp() * 1000)
# After the end of the data: New Year's Eve in New York.
END_MS: Final = round(datetime(2018, 2, 1, tzinfo=UTC).timestamp() * 1000)

# Fuel is bought by the gallon and the rest are no products at all: coupons, corrections.
EXCLUDED_DEPARTMENTS: Final = ("FUEL", "MISCELLANEOUS")
MIN_HOUSEHOLDS: Final = 20
MIN_LINES: Final = 10

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Truth:
    """Distinct (user, item) pairs that were bought in a part, by user and then by item.

    Attributes:
        user: [N] int64 positions in `Split.users`.
        item: [N] int64 positions in `Split.items`.
        novel: [N] bool, not bought before the part by that user.
    """

    user: Ints
    item: Ints
    novel: NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """I items, U users and L purchases of these items by these users.

    Attributes:
        items: [I] int64 product ids, ascending.
        users: [U] int64 household ids, ascending.
        user: [L] int64 positions in users, of every purchase, oldest first.
        item: [L] int64 positions in items.
        time_ms: [L] int64.
        row: [L] int64 rows in `events()`.
        validate: November, given all before.
        test: December, given all before.
    """

    items: Ints
    users: Ints
    user: Ints
    item: Ints
    time_ms: Ints
    row: Ints
    validate: Truth
    test: Truth

    def bought(self, start_ms: int, end_ms: int) -> Truth:
        """What was bought from start_ms until before end_ms."""
        key = self.user * len(self.items) + self.item
        return _truth(key, self.time_ms, start_ms, end_ms, len(self.items))

    def seen_before(self, now_ms: int) -> NDArray[np.bool_]:
        """[U, I] bool: what each user had bought before a moment."""
        known = self.time_ms < now_ms
        seen = np.zeros((len(self.users), len(self.items)), np.bool_)
        seen[self.user[known], self.item[known]] = True
        return seen


@cache
def split() -> Split:
    """Build the split from the wheel's files."""
    lines = purchases()
    product = lines["product_id"].to_numpy()
    household = lines["household_id"].to_numpy()
    time_ms = lines["time_ms"].to_numpy()
    early = time_ms < NOVEMBER_MS

    kept = (lines["quantity"].to_numpy() > 0) & ~_excluded(product)
    # First the items by their households, then the households by their lines of these items.
    pairs = np.unique(np.stack([product, household])[:, kept & early], axis=1)
    items, households = np.unique(pairs[0], return_counts=True)
    items = items[households >= MIN_HOUSEHOLDS]
    kept &= np.isin(product, items)
    users, counts = np.unique(household[kept & early], return_counts=True)
    users = users[counts >= MIN_LINES]
    kept &= np.isin(household, users)

    row = np.flatnonzero(kept)
    user = np.searchsorted(users, household[row])
    item = np.searchsorted(items, product[row])
    time_ms = time_ms[row]
    key = user * len(items) + item
    parts = [
        _truth(key, time_ms, start_ms, end_ms, len(items))
        for start_ms, end_ms in ((NOVEMBER_MS, DECEMBER_MS), (DECEMBER_MS, END_MS))
    ]
    return Split(items, users, user, item, time_ms, row, *parts)


def split_tables(until_ms: int, period_days: int, periods: int) -> TrainingTables:
    """The split's purchases before a moment, as a retriever learns from them.

    Every item is live all the time, as one ad in no mailer. The weeks of ads are here
    `periods` spans of `period_days` days, the last of which ends at `until_ms`.
    """
    every = split()
    unknown = dict.fromkeys(ITEM_FIELDS, pa.nulls(len(every.items), pa.string()))
    items = {**unknown, **product_columns(every.items)}
    starts_ms = until_ms - np.arange(periods, 0, -1) * period_days * _DAY_MS
    live = [
        pa.table(
            {
                "ad_id": every.items,
                "week": np.full(len(every.items), week, np.int32),
                "start_ms": np.full(len(every.items), start_ms),
                "end_ms": np.full(len(every.items), start_ms + period_days * _DAY_MS),
                **items,
            }
        )
        for week, start_ms in enumerate(starts_ms)
    ]
    return TrainingTables(
        events=events().take(every.row[every.time_ms < until_ms]),
        users=users(),
        ads=pa.concat_tables(live),
        visits=visits(FIRST_WEEK),
    )


def _truth(key: Ints, time_ms: Ints, start_ms: int, end_ms: int, items: int) -> Truth:
    """What was bought from start_ms until before end_ms; key = user * items + item."""
    bought = np.unique(key[(time_ms >= start_ms) & (time_ms < end_ms)])
    novel = ~np.isin(bought, key[time_ms < start_ms])
    return Truth(bought // items, bought % items, novel)


def _excluded(product: Ints) -> NDArray[np.bool_]:
    """[L] bool: the product's department is left out."""
    ids, fields = products()
    wanted = pa.array(EXCLUDED_DEPARTMENTS)
    department = fields["department"].cast(pa.string())
    excluded = pc.is_in(department, value_set=wanted).to_numpy()
    rows: NDArray[np.bool_] = excluded[np.searchsorted(ids, product)]
    return rows

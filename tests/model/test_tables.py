"""Claims about training tables: columns are checked by name and type, time cuts are strict."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from model.schema import Schema
from model.tables import TablesInvalid, TrainingTables

SCHEMA = Schema(("product", "slot"), ("age",), ("store",), ("buy",))
TABLES = TrainingTables(
    events=pa.table(
        {
            "user_id": pa.array([1, 1], pa.int64()),
            "time_ms": pa.array([10, 20], pa.int64()),
            "action": ["buy", "buy"],
            "value": [1.0, 2.0],
            "product": ["a", "b"],
        }
    ),
    users=pa.table({"user_id": pa.array([1], pa.int64()), "age": pa.array([None], pa.string())}),
    ads=pa.table(
        {
            "ad_id": pa.array([5, 6], pa.int64()),
            "week": pa.array([1, 2], pa.int32()),
            "start_ms": pa.array([0, 20], pa.int64()),
            "end_ms": pa.array([20, 40], pa.int64()),
            "product": ["a", "b"],
            "slot": ["D", "F"],
        }
    ),
    visits=pa.table(
        {
            "user_id": pa.array([1], pa.int64()),
            "time_ms": pa.array([20], pa.int64()),
            "visit_id": pa.array([1], pa.int64()),
            "ad_id": pa.array([6], pa.int64()),
            "product": ["b"],
            "slot": ["F"],
            "engage": pa.array([1], pa.int8()),
            "consume": pa.array([0], pa.int8()),
        }
    ),
)


def test_good_tables_pass() -> None:
    TABLES.check(SCHEMA)
    encoded = TABLES.ads.set_column(4, "product", TABLES.ads["product"].dictionary_encode())
    replace(TABLES, ads=encoded).check(SCHEMA)


def test_missing_column_and_wrong_type_are_named() -> None:
    with pytest.raises(TablesInvalid, match=r"ads: column 'slot' is missing"):
        replace(TABLES, ads=TABLES.ads.drop_columns("slot")).check(SCHEMA)
    wrong = TABLES.events.set_column(0, "user_id", pa.array(["1", "1"]))
    with pytest.raises(TablesInvalid, match=r"events\.user_id is string, expected int64"):
        replace(TABLES, events=wrong).check(SCHEMA)


def test_before_is_strict() -> None:
    earlier = TABLES.before(20)
    assert earlier.events["time_ms"].to_pylist() == [10]
    assert earlier.ads["ad_id"].to_pylist() == [5]
    assert earlier.visits.num_rows == 0
    assert TABLES.window() == {"first_ms": 10, "last_ms": 20}
    assert TABLES.before(0).window() == {}

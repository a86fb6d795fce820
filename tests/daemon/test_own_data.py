"""Column maps: columns become what the map says, and a map that cannot be used says why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import news_site
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from daemon.datasets import mapping, parquet
from daemon.datasets.visits import visits_of_events
from daemon.failure import Failed
from daemon.settings import ConfigurationError
from model.schema import Schema

DAY_MS = 86_400_000
SHORT = """
[schema]
item_fields = ["item", "kind"]
actions = ["buy"]
[files.events]
files = "events.parquet"
always = "buy"
[files.ads]
files = "ads.parquet"
"""

Write = Callable[..., mapping.DataMap]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes events and ads as columns, and the map of them."""

    def make(events: dict[str, Any], ads: dict[str, Any], text: str = SHORT) -> mapping.DataMap:
        pq.write_table(pa.table(events), tmp_path / "events.parquet")
        pq.write_table(pa.table(ads), tmp_path / "ads.parquet")
        (tmp_path / "map.toml").write_text(text)
        return mapping.load(tmp_path / "map.toml")

    return make


EVENTS = {
    "user_id": [1, 2, 1],
    "time_ms": [30, 10, 20],
    "item": ["a", "b", None],
    "kind": [1, 2, 3],
}
ADS = {
    "ad_id": [5],
    "start_ms": [0],
    "end_ms": pa.array([None], pa.int64()),
    "item": ["a"],
    "kind": [1],
}


def test_events_are_in_order_and_numbers_are_texts(write: Write) -> None:
    events = parquet.events(write(EVENTS, ADS))
    assert events["time_ms"].to_pylist() == [10, 20, 30]
    assert events["item"].to_pylist() == ["b", None, "a"]
    assert events["kind"].to_pylist() == ["2", "3", "1"]
    assert set(events["action"].to_pylist()) == {"buy"}
    assert events["value"].to_pylist() == [1.0] * 3


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("s", [3, 1, 2]),
        ("s", [3.0, 1.0, 2.0]),
        ("ms", [3_000, 1_000, 2_000]),
        ("us", [3_000_000, 1_000_000, 2_000_000]),
        ("ms", [datetime.fromtimestamp(second, UTC) for second in (3, 1, 2)]),
    ],
)
def test_times_are_read_in_their_unit(write: Write, unit: str, times: list[Any]) -> None:
    text = SHORT.replace("always", f'unit = "{unit}"\nalways')
    events = parquet.events(write(EVENTS | {"time_ms": times}, ADS, text))
    assert events["time_ms"].to_pylist() == [1_000, 2_000, 3_000]


def test_rows_without_a_user_or_a_time_are_left_out(write: Write) -> None:
    users, times = pa.array([1, None, 2], pa.int64()), pa.array([1, 2, None], pa.int64())
    assert parquet.events(write(EVENTS | {"user_id": users, "time_ms": times}, ADS)).num_rows == 1


def test_nothing_of_the_time_asked_for_or_later_is_read(write: Write) -> None:
    tables = parquet.training_tables(write(EVENTS, ADS), until_ms=20)
    assert tables.events["time_ms"].to_pylist() == [10]
    assert pc.max(tables.ads["end_ms"]).as_py() <= 20


def test_an_ad_is_in_each_period_of_its_flight_and_the_last_period_is_whole() -> None:
    flights = pa.table({"ad_id": [1, 2, 3], "start_ms": [0, 15, 30], "end_ms": [100, 25, 40]})
    live = parquet.by_period(flights, from_ms=5, end_ms=30, days=10 / DAY_MS)
    rows = live.select(["ad_id", "week", "start_ms", "end_ms"]).to_pylist()
    found = [tuple(row.values()) for row in rows]
    assert found == [(1, 0, 0, 10), (1, 1, 10, 20), (2, 1, 15, 20), (1, 2, 20, 30), (2, 2, 20, 25)]


def test_visits_of_events_have_what_was_met_and_a_sample_of_the_rest() -> None:
    schema = Schema(("item",), context_fields=("shop",))
    ads = pa.table(
        {
            "ad_id": range(20),
            "week": pa.array([0] * 20, pa.int32()),
            "start_ms": [100] * 20,
            "end_ms": [200] * 20,
            "item": [f"i{n}" for n in range(20)],
        }
    )
    events = pa.table(
        {
            "user_id": [1, 1, 1, 2, 3],
            "time_ms": [99, 100, 150, 199, 200],
            "item": ["i9", "i3", "i3", "i4", "i5"],
            "shop": ["x", "y", "z", None, "x"],
        }
    )
    visits = visits_of_events(events, ads, schema, negatives=5)
    # One event is before the period, one after it.
    assert np.unique(visits["user_id"].to_numpy()).tolist() == [1, 2]
    assert set(visits["time_ms"].to_pylist()) == {100}
    first, second = (visits.filter(pc.equal(visits["user_id"], user)) for user in (1, 2))
    assert (first.num_rows, second.num_rows) == (6, 6)
    engaged = [
        (row["item"], row["consume"], row["shop"]) for row in visits.to_pylist() if row["engage"]
    ]
    assert engaged == [("i3", 1, "y"), ("i4", 0, None)]
    assert len(set(first["ad_id"].to_pylist())) == 6


def test_impressions_take_from_their_ads_what_they_do_not_tell(tmp_path: Path) -> None:
    site = news_site.write(tmp_path)
    tables = parquet.training_tables(mapping.load(site.map))
    tables.check(mapping.load(site.map).fields)
    for ad_id, topic in zip(
        tables.visits["ad_id"].to_pylist(), tables.visits["topic"].to_pylist(), strict=True
    ):
        assert topic == f"{site.desks[ad_id]}/daily"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("always = 'buy'", "", "give action, a column, or always"),
        ('item_fields = ["item", "kind"]', "item_fields = []", "item_fields is empty"),
        ("[files.ads]", "[files.adds]", "files.adds: Extra inputs"),
        ("[files.ads]", "unit = 'h'\n[files.ads]", "'s', 'ms' or 'us'"),
        ("[schema]", "period_days = 0\n[schema]", "period_days"),
        ("[schema]", "schema]", "map.toml"),
    ],
)
def test_a_bad_map_names_the_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(SHORT.replace('"buy"\n[', "'buy'\n[").replace(old, new))
    with pytest.raises(ConfigurationError, match=r"map\.toml") as error:
        mapping.load(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHORT.replace("events.parquet", "nothing-*.parquet"), "no such file"),
        (SHORT.replace("always", 'user_id = "reader"\nalways'), "no column reader; it has user_id"),
        (SHORT.replace("always", 'fields = {kind = "sort"}\nalways'), "no column sort"),
        (SHORT.replace("always", 'user_id = "item"\nalways'), "item cannot be user_id"),
    ],
)
def test_files_that_are_not_as_the_map_says_are_named(write: Write, text: str, said: str) -> None:
    with pytest.raises(Failed, match=said):
        parquet.training_tables(write(EVENTS, ADS, text))

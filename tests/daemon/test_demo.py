"""What the demo's figures mean."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.by_hand import RANK_TOLERANCE, same
from daemon.demo.latency import buckets, closed_loop, quantile
from daemon.rows import Rows

PAGE = """\
# TYPE headwater_ad_freshness_seconds histogram
headwater_ad_freshness_seconds_bucket{stage="broker",le="0.01"} 9
headwater_ad_freshness_seconds_bucket{stage="broker",le="+Inf"} 9
headwater_ad_freshness_seconds_bucket{stage="total",le="0.01"} 4
headwater_ad_freshness_seconds_bucket{stage="total",le="0.02"} 8
headwater_ad_freshness_seconds_bucket{stage="total",le="+Inf"} 8
headwater_ad_freshness_seconds_count{stage="total"} 8
headwater_ad_freshness_seconds_sum{stage="total"} 0.1
"""


def test_a_histogram_is_read_by_its_stage():
    found = buckets(PAGE, "headwater_ad_freshness_seconds", "total")
    assert found == {0.01: 4, 0.02: 8, math.inf: 8}


def test_a_quantile_is_of_what_came_between_two_readings():
    before = {0.01: 100.0, 0.02: 100.0, math.inf: 100.0}
    after = {0.01: 100.0, 0.02: 200.0, math.inf: 200.0}
    assert quantile(before, after, 0.5) == pytest.approx(0.015)
    assert quantile({}, after, 0.25) == pytest.approx(0.005)


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert quantile({}, {0.01: 1.0, math.inf: 10.0}, 0.99) == 0.01


def test_a_quantile_of_nothing_is_not_a_number():
    readings = {0.01: 5.0, math.inf: 5.0}
    assert math.isnan(quantile(readings, readings, 0.5))


async def test_callers_of_a_closed_loop_are_counted_once_each_call():
    seen: list[int] = []

    async def call(number: int) -> None:
        seen.append(number)

    calls, seconds = await closed_loop(call, callers=2, duration_s=0.02)
    assert sorted(seen) == list(range(calls))
    assert seconds >= 0.02


def answer(*ads: tuple[str, float, float], models: str = "m") -> dict[str, Any]:
    names = ("ad_id", "score", "value")
    return {"models": {"ranker": models}, "ads": [dict(zip(names, ad, strict=True)) for ad in ads]}


def test_answers_are_the_same_up_to_the_last_digits_of_their_values():
    first = answer(("1", 5.0, 0.3), ("2", 4.0, 0.2))
    close = RANK_TOLERANCE / 2
    assert same(first, answer(("1", 5.0, 0.3 + close), ("2", 4.0, 0.2)))
    assert not same(first, answer(("1", 5.0, 0.31), ("2", 4.0, 0.2)))
    assert not same(first, answer(("1", 5.1, 0.3), ("2", 4.0, 0.2)))
    assert not same(first, answer(("1", 5.0, 0.3), ("3", 4.0, 0.2)))
    assert not same(first, answer(("1", 5.0, 0.3)))
    assert not same(first, answer(("1", 5.0, 0.3), ("2", 4.0, 0.2), models="other"))


def test_only_ads_of_nearly_equal_value_may_change_places():
    close = RANK_TOLERANCE / 2
    assert same(
        answer(("1", 5.0, 0.3), ("2", 4.0, 0.3 - close)),
        answer(("2", 4.0, 0.3), ("1", 5.0, 0.3 - close)),
    )
    assert not same(
        answer(("1", 5.0, 0.3), ("2", 4.0, 0.2)), answer(("2", 4.0, 0.2), ("1", 5.0, 0.3))
    )


def test_rows_are_written_as_the_contract_says(tmp_path: Path):
    rows = Rows()
    rows.add("qps", 12, "requests/s", n=240)
    rows.add("recall@100", 0.5, "share", system="popularity", spread=0.01, n=400)
    rows.write(tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {
            "axis": "qps",
            "system": "headwater",
            "value": 12.0,
            "unit": "requests/s",
            "spread": None,
            "n": 240,
        },
        {
            "axis": "recall@100",
            "system": "popularity",
            "value": 0.5,
            "unit": "share",
            "spread": 0.01,
            "n": 400,
        },
    ]

"""Claims of the quality measure, on the data set's own weeks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pytest

from daemon import quality
from daemon.datasets import complete_journey as journey
from daemon.quality import Question, Week, one_per_product, recall
from daemon.rows import Mean

WEEK = 12
USERS = 30


@dataclass(frozen=True)
class Scored:
    ad_id: int
    score: float
    value: float


@pytest.fixture(scope="module")
def week() -> Week:
    return Week(WEEK, users=USERS)


async def only(week: Week) -> AsyncIterator[Week]:
    yield week


def test_recall_is_the_share_of_the_bought_in_the_first_k() -> None:
    assert recall([1, 2, 3, 4], frozenset({2, 4, 9}), k=3) == pytest.approx(1 / 3)
    assert recall([1, 2, 3, 4], frozenset({2, 4, 9}), k=4) == pytest.approx(2 / 3)


def test_a_list_holds_a_product_once_at_the_place_of_its_first_ad() -> None:
    assert one_per_product([72, 71, 31, 74, 33, 51]) == [7, 3, 5]


def test_summary_gives_the_standard_error_of_the_mean() -> None:
    found = Mean.of([0.0, 1.0, 1.0, 0.0])
    assert (found.value, found.n) == (0.5, 4)
    assert found.spread == pytest.approx(np.std([0, 1, 1, 0], ddof=1) / 2)


def test_questions_are_about_products_bought_that_week_with_a_live_ad(week: Week) -> None:
    events = journey.events(WEEK + 1)
    start, end = journey.week_start_ms(WEEK), journey.week_start_ms(WEEK + 1)
    rows = events.filter((pc.field("time_ms") >= start) & (pc.field("time_ms") < end)).to_pylist()
    live = {ad_id // 10 for ad_id in journey.ads(WEEK, WEEK + 1)["ad_id"].to_pylist()}
    for question in week.questions:
        bought = {int(row["product"]) for row in rows if row["user_id"] == question.user_id}
        assert question.bought == bought & live
        assert question.bought
        assert question.now_ms == start


def test_the_same_seed_draws_the_same_users_and_another_does_not(week: Week) -> None:
    users = [question.user_id for question in week.questions]
    assert len(set(users)) == USERS
    assert [q.user_id for q in Week(WEEK, users=USERS).questions] == users
    assert [q.user_id for q in Week(WEEK, users=USERS, seed=1).questions] != users


def test_a_question_carries_what_is_known_of_the_user_and_nothing_else(week: Week) -> None:
    profiles = {row.pop("user_id"): row for row in journey.users().to_pylist()}
    past = journey.events(WEEK)
    for question in week.questions:
        known = {f: (v,) for f, v in profiles[question.user_id].items() if v is not None}
        assert question.profile == known
        own = past.filter(pc.field("user_id") == question.user_id)
        stores = own["store"].to_pylist()
        assert question.context == ({"store": (stores[-1],)} if stores else {})


def test_baselines_are_orders_of_the_live_products(week: Week) -> None:
    live = sorted(week.live.tolist())
    user_id = week.questions[0].user_id
    orders = [week.popularity(), week.popularity_all_time(), week.personal_frequency(user_id)]
    for order in orders:
        assert sorted(order) == live


def test_personal_frequency_counts_the_past_and_breaks_ties_by_popularity(week: Week) -> None:
    user_id = week.questions[0].user_id
    own = journey.events(WEEK).filter(pc.field("user_id") == user_id)
    counts = {int(value): 0 for value in week.live}
    for product in map(int, own["product"].to_pylist()):
        if product in counts:
            counts[product] += 1
    assert any(counts.values())
    order = week.personal_frequency(user_id)
    frequencies = [counts[product] for product in order]
    assert frequencies == sorted(frequencies, reverse=True)
    rest = [product for product in week.popularity() if counts[product] == 0]
    assert order[-len(rest) :] == rest


def test_baselines_know_nothing_of_the_week_itself(week: Week) -> None:
    """Popularity from the past alone, recomputed from tables that end before the week."""
    since = journey.week_start_ms(WEEK) - quality.POPULARITY_DAYS * 86_400_000
    recent = journey.events(WEEK).filter(pc.field("time_ms") >= since)
    counts = dict.fromkeys(week.live.tolist(), 0)
    for product in map(int, recent["product"].to_pylist()):
        if product in counts:
            counts[product] += 1
    assert week.popularity() == sorted(counts, key=lambda product: (-counts[product], product))


async def test_a_scorer_that_knows_the_answer_recalls_all_by_value_and_none_by_score(
    week: Week,
) -> None:
    """The two orders are told apart, and one list holds more ads than products."""

    async def scorer(question: Question) -> Sequence[Scored]:
        return [
            Scored(product * 10 + slot, float(not wanted), float(wanted))
            for product in week.live.tolist()
            for slot in (1, 3)
            for wanted in [product in question.bought]
        ]

    recalls = await quality.measure(scorer, only(week))
    assert recalls["headwater_ranked"].value == 1.0
    assert recalls["headwater"].value == 0.0
    assert {found.n for found in recalls.values()} == {USERS}


async def test_baselines_beat_chance(week: Week) -> None:
    """The first hundred of several hundred products, taken by id, are no better than chance."""

    async def scorer(question: Question) -> Sequence[Scored]:
        return [Scored(product * 10 + 1, 0.0, 0.0) for product in week.live.tolist()]

    recalls = await quality.measure(scorer, only(week))
    assert recalls["popularity"].value > recalls["headwater"].value
    assert recalls["personal_frequency"].value > recalls["headwater"].value

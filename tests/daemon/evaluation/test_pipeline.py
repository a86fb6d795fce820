"""Claims about the retriever before an index, with one trained on a few generated purchases."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from daemon.evaluation.measures import LENGTH, by_scores
from daemon.evaluation.pipeline import Pipeline
from model.retriever import Retriever, train_retriever
from model.schema import Schema
from model.tables import TrainingTables

DAY_MS = 86_400_000
USERS, ITEMS, EVENTS, PERIODS = 24, 150, 1_500, 3
NOW_MS = PERIODS * 30 * DAY_MS
SCHEMA = Schema(("product", "kind"), ("age",), ("store",), ("buy",))


def tables() -> TrainingTables:
    """Each user buys a few items of one kind again and again."""
    draw = np.random.default_rng(0)
    user = draw.integers(USERS, size=EVENTS)
    item = (user % 3 + 3 * (draw.geometric(0.1, size=EVENTS) + user)) % ITEMS
    live = np.arange(PERIODS * ITEMS)
    text, number = pa.string(), pa.int64()
    visits = pa.schema(
        [(name, number) for name in ("user_id", "time_ms", "visit_id", "ad_id")]
        + [("product", text), ("kind", text), ("engage", pa.int8()), ("consume", pa.int8())]
    )
    return TrainingTables(
        events=pa.table(
            {
                "user_id": user,
                "time_ms": np.sort(draw.integers(NOW_MS, size=EVENTS)),
                "action": ["buy"] * EVENTS,
                "value": draw.uniform(1, 9, EVENTS),
                "product": [f"p{at}" for at in item],
                "kind": [f"k{at % 3}" for at in item],
            }
        ),
        users=pa.table({"user_id": np.arange(USERS), "age": ["a"] * USERS}),
        ads=pa.table(
            {
                "ad_id": live % ITEMS,
                "week": (live // ITEMS).astype(np.int32),
                "start_ms": live // ITEMS * 30 * DAY_MS,
                "end_ms": (live // ITEMS + 1) * 30 * DAY_MS,
                "product": [f"p{at % ITEMS}" for at in live],
                "kind": [f"k{at % ITEMS % 3}" for at in live],
            }
        ),
        visits=visits.empty_table(),
    )


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("retriever") / "tiny"
    train_retriever(tables(), SCHEMA, "tiny", folder)
    return Pipeline(Retriever.load(folder), tables(), NOW_MS)


def test_the_index_finds_what_exact_scores_find(pipeline: Pipeline) -> None:
    """Up to the rounding of ads and weights: of a hundred items a few at the end may differ."""
    for user in range(USERS):
        found = pipeline.search(user, np.zeros(0, np.int64))
        wanted = by_scores(pipeline.exact)(user, np.zeros(0, np.int64))
        assert len(np.unique(found)) == LENGTH
        assert len(np.intersect1d(found, wanted)) >= 0.9 * LENGTH
        assert set(found[:5]) <= set(wanted[:20])


def test_what_is_not_wanted_is_left_out(pipeline: Pipeline) -> None:
    hidden = np.arange(0, ITEMS, 4)
    assert not np.isin(pipeline.search(3, hidden), hidden).any()
    assert not np.isin(by_scores(pipeline.exact)(3, hidden), hidden).any()


def test_own_items_come_first(pipeline: Pipeline) -> None:
    bought = tables().events
    products = np.array(bought["product"].to_pylist())[bought["user_id"].to_numpy() == 5]
    own = {int(name[1:]) for name in products}
    assert len(own & set(pipeline.search(5, np.zeros(0, np.int64))[:10].tolist())) >= 5

"""Claims about the retriever before an index, with one trained on a few generated purchases."""

from __future__ import annotations

import numpy as np
import pytest
from corner_shop import ITEMS, NOW_MS, SCHEMA, USERS, tables

from daemon.evaluation.measures import LENGTH, by_scores
from daemon.evaluation.pipeline import Pipeline
from model.retriever import Retriever, train_retriever


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

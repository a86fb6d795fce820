"""Claims about the candidates that a ranker of products learns from, on generated purchases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from corner_shop import DAY_MS, ITEMS, NOW_MS, SCHEMA, USERS, tables

from daemon.datasets.complete_journey.retrieval import Split, Truth
from daemon.evaluation import cascade
from daemon.evaluation.candidates import Candidates
from daemon.evaluation.cascade import Reordered, StackingLeak, candidates, every_other
from daemon.evaluation.pipeline import Pipeline
from model.ranker.metrics import grouped_auc
from model.retriever import PRESETS, Retriever, train_retriever
from model.tables import RETRIEVAL

BEGAN_MS = NOW_MS - 30 * DAY_MS
DEPTH = 40


@pytest.fixture(scope="module")
def split() -> Split:
    """The generated purchases in the form of the data set's."""
    events = tables().events
    item = [int(name.removeprefix("p")) for name in events["product"].to_pylist()]
    nothing = Truth(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    return Split(
        items=np.arange(ITEMS),
        users=np.arange(USERS),
        user=events["user_id"].to_numpy(),
        item=np.array(item),
        time_ms=events["time_ms"].to_numpy(),
        row=np.arange(len(item)),
        validate=nothing,
        test=nothing,
    )


@pytest.fixture(scope="module")
def retrievers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Retriever]:
    """One fitted to the newest period too, and one without it; both learn by heart."""
    by_heart = replace(
        PRESETS["tiny"], held_out_periods=0, refit=False, validations=0, epochs=40, hide=0.0
    )
    folder = tmp_path_factory.mktemp("retrievers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", by_heart)
        for name, until_ms in (("fitted", NOW_MS), ("ignorant", BEGAN_MS)):
            train_retriever(tables().before(until_ms), SCHEMA, "tiny", folder / name)
    return {name: Retriever.load(folder / name) for name in ("fitted", "ignorant")}


def found(retriever: Retriever, split: Split) -> Candidates:
    """Of the newest period, at its start."""
    known = tables().before(BEGAN_MS)
    pipeline = Pipeline(retriever.refreshed(known), known, BEGAN_MS)
    bought, seen = split.bought(BEGAN_MS, NOW_MS), split.seen_before(BEGAN_MS)
    return Candidates.of_day(pipeline, split, bought, seen, DEPTH)


def auc(of: Candidates) -> float:
    """How well the retriever's own scores tell what was bought."""
    return grouped_auc(of.score, of.bought.astype(np.float32), of.user)


def test_a_stacking_leak_shows_and_is_refused(
    retrievers: dict[str, Retriever], split: Split
) -> None:
    """Planted: a retriever that was fitted to the purchases it finds the candidates of."""
    honest, leaking = (auc(found(retrievers[name], split)) for name in ("ignorant", "fitted"))
    assert leaking > honest + 0.05
    with pytest.raises(StackingLeak, match="was fitted to purchases of"):
        candidates(retrievers["fitted"], split, BEGAN_MS, NOW_MS)
    # A day of the period is enough.
    with pytest.raises(StackingLeak):
        candidates(retrievers["fitted"], split, NOW_MS - DAY_MS, NOW_MS + 29 * DAY_MS)
    assert not retrievers["fitted"].has_learned_from(NOW_MS, NOW_MS + 30 * DAY_MS)
    assert not retrievers["ignorant"].has_learned_from(BEGAN_MS, NOW_MS)


def test_candidates_are_the_first_of_all_items_and_of_novel_ones(
    retrievers: dict[str, Retriever], split: Split
) -> None:
    of = found(retrievers["ignorant"], split)
    bought, seen = split.bought(BEGAN_MS, NOW_MS), split.seen_before(BEGAN_MS)
    np.testing.assert_array_equal(np.unique(of.user), np.unique(bought.user))
    for user in np.unique(of.user)[::5]:
        mine = of.user == user
        assert DEPTH <= mine.sum() <= 2 * DEPTH
        assert (~seen[user, of.item[mine]]).sum() >= DEPTH
        truly = bought.item[bought.user == user]
        np.testing.assert_array_equal(of.bought[mine], np.isin(of.item[mine], truly))


def test_sampling_keeps_what_was_bought_and_its_share_of_the_rest(
    retrievers: dict[str, Retriever], split: Split
) -> None:
    of = found(retrievers["ignorant"], split)
    sampled = of.sampled(10, seed=0)
    assert sampled.bought.sum() == of.bought.sum()
    passed = (~sampled.bought).sum() / len(np.unique(of.user))
    assert passed == pytest.approx(10, rel=0.15)


def test_of_the_newest_day_some_households_judge_with_all_of_their_candidates(
    retrievers: dict[str, Retriever], split: Split
) -> None:
    older = found(retrievers["ignorant"], split)
    newest = replace(older, now_ms=older.now_ms + 30 * DAY_MS)
    taught = cascade.thinned([older, newest])
    judge = taught.now_ms == newest.now_ms[0]
    assert 0 < len(np.unique(taught.user[judge])) < len(np.unique(older.user))
    for user in np.unique(taught.user[judge]):
        mine = taught.item[judge & (taught.user == user)]
        np.testing.assert_array_equal(mine, newest.item[newest.user == user])
    assert (~judge).sum() == len(older.sampled(cascade.PASSED, seed=0))


def test_visits_carry_the_retriever_s_score(retrievers: dict[str, Retriever], split: Split) -> None:
    of = found(retrievers["ignorant"], split)
    ads = tables().ads
    visits = of.visits(split, ads.slice(ads.num_rows - ITEMS).select(["product", "kind"]))
    np.testing.assert_array_equal(visits[RETRIEVAL].to_numpy(), of.score)
    assert visits["product"].to_pylist() == [f"p{item}" for item in of.item]
    assert len(np.unique(visits["visit_id"].to_numpy())) == len(np.unique(of.user))


def test_every_other_period_is_learned_from_and_the_newest_held_out() -> None:
    ads = pa.table({"week": np.repeat(np.arange(7), 2)})
    split_up = [every_other(replace(tables(), ads=ads), first).ads for first in (0, 1)]
    weeks = [np.unique(part["week"].to_numpy()).tolist() for part in split_up]
    assert weeks == [[0, 2, 4, 6], [1, 3, 5, 6]]


def test_reordered_candidates_follow_their_new_scores_without_what_is_hidden() -> None:
    user, item = np.array([0, 0, 0, 2, 2]), np.array([5, 7, 9, 1, 5])
    none = np.zeros(5, np.float32)
    of = Candidates(user, item, np.zeros(5, np.int64), none, none > 0)
    order = Reordered(of, np.array([0.1, 0.9, 0.5, 0.2, 0.3]))
    assert order.first(0, np.zeros(0, np.int64)).tolist() == [7, 9, 5]
    assert order.first(0, np.array([7, 8])).tolist() == [9, 5]
    assert order.first(1, np.zeros(0, np.int64)).tolist() == []
    assert order.first(2, np.zeros(0, np.int64)).tolist() == [5, 1]


def test_the_preset_for_products_reads_the_retriever_s_score_and_no_responses() -> None:
    config, training = cascade.setup(tables(), seed=3)
    assert config.moa.retrieved
    assert config.moa.answered == ()
    assert training.seed == 3

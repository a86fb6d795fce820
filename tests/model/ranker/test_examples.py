"""Claims about examples: as of their own time, the same in any batch, the same as when served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.features import Encoder, History, Request
from model.ranker.batches import Batches
from model.ranker.calibration import Platt
from model.ranker.config import RankerConfig
from model.ranker.examples import Examples
from model.ranker.gesr import Gesr
from model.ranker.ranker import Ranker
from model.ranker.sampling import newest_visits, sample_negatives
from model.ranker.signals import contextual, names
from model.ranker.thinning import Thinning
from model.ranker.train import hide_context, predict
from model.schema import Schema
from model.tables import RETRIEVAL, TrainingTables

ACTION_IDS = 3


@pytest.fixture
def examples(world: TrainingTables, schema: Schema, config: RankerConfig) -> Examples:
    return Examples.from_tables(world, Encoder(schema), config)


def test_each_chosen_row_is_in_an_epoch_once(examples: Examples, config: RankerConfig) -> None:
    chosen = np.random.default_rng(0).random(len(examples.rows)) < 0.6
    batches = Batches(examples, chosen, config.hstu.context, groups=7)
    for order in (None, np.random.default_rng(1)):
        rows = np.concatenate([batches.build(units).rows.ravel() for units in batches.plan(order)])
        np.testing.assert_array_equal(np.sort(rows[rows >= 0]), np.flatnonzero(chosen))


def test_a_visit_weighs_as_the_root_of_its_rows(examples: Examples, config: RankerConfig) -> None:
    chosen = np.random.default_rng(0).random(len(examples.rows)) < 0.6
    batches = Batches(examples, chosen, config.hstu.context, groups=7, balance=0.5)
    weights = np.zeros(len(chosen))
    for units in batches.plan():
        batch = batches.build(units)
        real = batch.rows >= 0
        assert not batch.weights.numpy()[~real].any()
        weights[batch.rows[real]] = batch.weights.numpy()[real]
    assert weights[chosen].mean() == pytest.approx(1.0)
    sums = np.bincount(examples.rows.visits, weights)
    rows = np.bincount(examples.rows.visits, chosen)
    ratio = sums[rows > 0] / np.sqrt(rows[rows > 0])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_nothing_chosen_is_no_batch(examples: Examples, config: RankerConfig) -> None:
    none = np.zeros(len(examples.rows), bool)
    assert Batches(examples, none, config.hstu.context, groups=7).plan() == []


def test_a_trained_row_and_its_served_request_have_one_score(
    world: TrainingTables, schema: Schema, config: RankerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batched with others from a segment of the history, or alone from the whole of it.

    Both read what everybody did as of the end, which training reads as of each visit.
    Segments are short, so that most visits lie in a later one than the first.
    """
    monkeypatch.setattr("model.ranker.batches.SEGMENT", 9)
    encoder = Encoder(schema)
    statistics = Examples.from_tables(world, encoder, config).everybody.freeze()
    examples = Examples.from_tables(world, encoder, config, statistics=statistics)
    torch.manual_seed(0)
    model = Gesr(config, ACTION_IDS).eval()
    model.moa.fit_signals(examples.rows.signals)
    every = np.ones(len(examples.rows), bool)
    logits, _ = predict(model, Batches(examples, every, config.hstu.context, 16))
    assert Batches(examples, every, config.hstu.context, 16)._segments.max() > 1

    ranker = Ranker(schema, model, statistics, Platt.identity(2))
    expected = Platt.identity(2).apply(logits)
    rows, histories = examples.rows, examples.histories
    for visit in np.unique(rows.visits)[::17]:
        (at,) = np.nonzero(rows.visits == visit)
        user = rows.prefixes.owners[at[0]]
        mine = world.events.filter(
            np.asarray(world.events["user_id"].to_numpy() == histories.users[user])
        )
        request = Request(
            profile=histories.profiles[user],
            context=rows.contexts[at[0]],
            now_ms=int(rows.prefixes.now_ms[at[0]]),
            history=History(
                mine["time_ms"].to_numpy(),
                encoder.actions_from_table(mine),
                mine["value"].to_numpy().astype(np.float32),
                encoder.items_from_table(mine),
            ),
        )
        scores = ranker.score(request, rows.items[at])
        np.testing.assert_allclose(scores, expected[at], rtol=1e-4, atol=1e-5)


def test_a_context_hidden_in_training_reads_as_none_at_all(
    world: TrainingTables, schema: Schema, config: RankerConfig
) -> None:
    """As of a request that says nothing of where it comes from."""
    nowhere = replace(world, visits=world.visits.drop_columns(["store"]))
    inputs = []
    for tables in (world, nowhere):
        examples = Examples.from_tables(tables, Encoder(schema), config)
        every = np.ones(len(examples.rows), bool)
        batches = Batches(examples, every, config.hstu.context, groups=16)
        inputs.append(batches.build(batches.plan()[1]).inputs)
    shown, bare = inputs
    assert not torch.equal(shown.signals.nan_to_num(), bare.signals.nan_to_num())
    hidden = hide_context(shown, 1.0, contextual(config.moa))
    assert torch.equal(hidden.context, bare.context)
    torch.testing.assert_close(hidden.signals, bare.signals, rtol=0, atol=0, equal_nan=True)


def test_retrieval_s_score_is_the_same_signal_in_training_and_in_serving(
    world: TrainingTables, schema: Schema, config: RankerConfig
) -> None:
    """Of visits that say it; without the score a request is answered as if it were unknown."""
    scores = np.random.default_rng(0).normal(size=world.visits.num_rows).astype(np.float32)
    retrieved = replace(world, visits=world.visits.append_column(RETRIEVAL, pa.array(scores)))
    config = replace(config, moa=replace(config.moa, retrieved=True))
    encoder = Encoder(schema)
    examples = Examples.from_tables(retrieved, encoder, config)
    rows = examples.rows
    read = rows.signals[:, names(config.moa).index("retrieval")]
    visits = world.visits["visit_id"].to_numpy()
    for visit in np.unique(visits)[::29]:
        np.testing.assert_array_equal(read[rows.visits == visit], scores[visits == visit])

    torch.manual_seed(0)
    model = Gesr(config, ACTION_IDS).eval()
    model.moa.fit_signals(rows.signals)
    ranker = Ranker(schema, model, examples.everybody.freeze(), Platt.identity(2))
    history = History(
        *(np.zeros(0, kind) for kind in (np.int64, np.int32, np.float32)), rows.items[:0]
    )
    request = Request(rows.contexts[0][:0], rows.contexts[0], 1, history)
    request = replace(request, profile=examples.histories.profiles[0])
    with_score = ranker.score(request, rows.items[:9], rows.signals[:9, -1])
    unknown = ranker.score(request, rows.items[:9])
    assert np.abs(with_score - unknown).max() > 1e-4
    nothing = np.full(9, np.nan, np.float32)
    np.testing.assert_array_equal(ranker.score(request, rows.items[:9], nothing), unknown)


def test_no_retrieval_score_is_read_where_the_configuration_names_none(
    world: TrainingTables, schema: Schema, config: RankerConfig
) -> None:
    scores = pa.array(np.ones(world.visits.num_rows))
    retrieved = replace(world, visits=world.visits.append_column(RETRIEVAL, scores))
    plain, with_scores = (
        Examples.from_tables(tables, Encoder(schema), config).rows for tables in (world, retrieved)
    )
    np.testing.assert_array_equal(plain.signals, with_scores.signals)


def test_what_happens_later_never_changes_an_example(
    world: TrainingTables, schema: Schema, config: RankerConfig
) -> None:
    encoder = Encoder(schema)
    whole = Examples.from_tables(world, encoder, config).rows
    cut_ms = int(np.median(world.visits["time_ms"].to_numpy()))
    early = Examples.from_tables(world.before(cut_ms), encoder, config).rows
    (before,) = np.nonzero(whole.prefixes.now_ms < cut_ms)
    np.testing.assert_array_equal(whole.items[before], early.items)
    np.testing.assert_array_equal(whole.counts[before], early.counts)
    np.testing.assert_allclose(whole.signals[before], early.signals, rtol=1e-3)


def test_sampling_keeps_positives_and_the_rows_it_must(world: TrainingTables) -> None:
    engage = world.visits["engage"].to_numpy() > 0
    kept = world.visits["time_ms"].to_numpy() > 5 * 7 * 86_400_000
    among = world.visits["user_id"].to_numpy() != 3
    sampled = sample_negatives(world, among, kept, per_positive=2, seed=0)
    assert not sampled[~among].any()
    assert sampled[among & (engage | kept)].all()
    thinned = (sampled & ~engage & ~kept).sum()
    assert thinned == pytest.approx(2 * (among & engage & ~kept).sum(), rel=0.15)


def test_only_the_newest_visits_stay(world: TrainingTables) -> None:
    times = world.visits["time_ms"].to_numpy()
    among = times < times.max()
    stay = newest_visits(world, among, visits=50)
    assert stay[~among].all()
    assert len(np.unique(world.visits["visit_id"].to_numpy()[stay & among])) == 50
    assert times[stay].min() >= np.sort(np.unique(times))[-4]


def test_thinned_histories_keep_each_visit_s_order_of_events(
    world: TrainingTables, schema: Schema, config: RankerConfig
) -> None:
    """A visit reads those of its own prefix that stay, and none from after it."""
    examples = Examples.from_tables(world, Encoder(schema), config)
    every = np.ones(len(examples.rows), bool)
    thin = Thinning(events=64, alpha=1.0)
    batches = Batches(examples, every, config.hstu.context, groups=16, thinning=thin)
    shorter = 0
    for units in batches.plan():
        whole, thinned = (
            batches.build(units),
            batches.build(units, np.random.default_rng(0)),
        )
        np.testing.assert_array_equal(whole.rows, thinned.rows)
        shorter += int((thinned.inputs.prefixes < whole.inputs.prefixes).sum())
        inputs = thinned.inputs
        for v, prefix in enumerate(inputs.prefixes.tolist()):
            times = inputs.time_s[inputs.rows[v]]
            assert (times[:prefix] < inputs.now_s[v]).all()
            assert (times.diff() >= 0).all()
    assert shorter > 0

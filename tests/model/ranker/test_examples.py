"""Claims about examples: as of their own time, the same in any batch, the same as when served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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
from model.ranker.train import predict
from model.schema import Schema
from model.tables import TrainingTables

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
    batches = Batches(examples, chosen, config.hstu.context, groups=7)
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

    Popularity is left out, as training reads it as of each visit and serving as of the end.
    Segments are short, so that most visits lie in a later one than the first.
    """
    monkeypatch.setattr("model.ranker.batches.SEGMENT", 9)
    config = replace(config, moa=replace(config.moa, popular=()))
    encoder = Encoder(schema)
    examples = Examples.from_tables(world, encoder, config)
    torch.manual_seed(0)
    model = Gesr(config, ACTION_IDS).eval()
    every = np.ones(len(examples.rows), bool)
    logits, _ = predict(model, Batches(examples, every, config.hstu.context, 16), len(every))
    assert Batches(examples, every, config.hstu.context, 16)._segments.max() > 1

    ranker = Ranker(schema, model, examples.popularity, Platt.identity(2))
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
    np.testing.assert_array_equal(whole.signals[before], early.signals)


def test_sampling_keeps_positives_and_the_rows_it_must(world: TrainingTables) -> None:
    engage = world.visits["engage"].to_numpy() > 0
    kept = world.visits["time_ms"].to_numpy() > 5 * 7 * 86_400_000
    sampled = sample_negatives(world, kept, per_positive=2, seed=0).visits
    rows = sampled["engage"].to_numpy() > 0
    assert rows.sum() == engage.sum()
    assert (sampled["time_ms"].to_numpy() > 5 * 7 * 86_400_000).sum() == kept.sum()
    thinned = (~rows).sum() - (~engage & kept).sum()
    assert thinned == pytest.approx(2 * (engage & ~kept).sum(), rel=0.1)


def test_only_the_newest_visits_stay(world: TrainingTables) -> None:
    times = world.visits["time_ms"].to_numpy()
    among = times < times.max()
    left = newest_visits(world, among, visits=50).visits
    assert left.num_rows < world.visits.num_rows
    assert (left["time_ms"].to_numpy() == times.max()).sum() == (~among).sum()
    limited = left["time_ms"].to_numpy() < times.max()
    assert len(np.unique(left["visit_id"].to_numpy()[limited])) == 50
    assert left["time_ms"].to_numpy().min() >= np.sort(np.unique(times))[-4]

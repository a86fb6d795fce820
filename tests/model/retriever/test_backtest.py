"""Claims about retrievers that are trained to be measured once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from model.features import Encoder
from model.retriever import PRESETS, Backtest, RetrieverSettings
from model.retriever.network import Terms
from model.schema import Schema
from model.tables import TrainingTables

WEEK_MS = 7 * 86_400_000
NOW_MS = 7 * WEEK_MS


@pytest.fixture(scope="module")
def settings() -> RetrieverSettings:
    return replace(PRESETS["tiny"], epochs=2, validations=0)


@pytest.fixture(scope="module")
def known(world: TrainingTables) -> TrainingTables:
    """Everything before the last week, and the last week's ads."""
    return replace(world, events=world.events.filter(pc.less(world.events["time_ms"], NOW_MS)))


@pytest.fixture(scope="module")
def backtest(known: TrainingTables, schema: Schema, settings: RetrieverSettings) -> Backtest:
    return Backtest(known, schema, settings)


def test_what_was_bought_before_is_found_in_the_order_of_the_tables(
    backtest: Backtest, known: TrainingTables, schema: Schema, settings: RetrieverSettings
) -> None:
    scores = backtest.try_out(settings).scores
    newest = known.ads.filter(pc.equal(known.ads["week"], pc.max(known.ads["week"])))
    assert scores.shape == (48, newest.num_rows)
    encoder = Encoder(schema)
    users = known.events["user_id"].to_numpy()
    items = encoder.items_from_table(known.events)[:, 0]
    ads = encoder.items_from_table(newest)[:, 0]
    met = np.array([np.isin(ads, items[users == user]) for user in range(48)])
    assert scores[met].mean() > scores[~met].mean() + 1.0


def test_a_trial_is_the_same_whatever_came_before_it(
    backtest: Backtest, settings: RetrieverSettings
) -> None:
    first = backtest.try_out(settings).scores
    torch.manual_seed(9)
    other = backtest.try_out(replace(settings, seed=1)).scores
    np.testing.assert_array_equal(backtest.try_out(settings).scores, first)
    assert not np.array_equal(other, first)


def test_a_term_that_is_left_out_has_no_weights(
    backtest: Backtest, settings: RetrieverSettings
) -> None:
    numbers = []
    for terms in (
        Terms(ipnn=False, taste=False, hits=False),
        Terms(taste=False, hits=False),
        Terms(taste=False),
        Terms(),
    ):
        network = replace(settings.network, terms=terms)
        numbers.append(backtest.try_out(replace(settings, network=network)).parameters)
    assert numbers == sorted(set(numbers))


def test_an_order_of_ads_changes_no_score(
    backtest: Backtest, known: TrainingTables, schema: Schema, settings: RetrieverSettings
) -> None:
    order = np.random.default_rng(0).permutation(known.ads.num_rows)
    shuffled = Backtest(replace(known, ads=known.ads.take(pa.array(order))), schema, settings)
    newest = known.ads["week"].to_numpy() == known.ads["week"].to_numpy().max()
    place = np.argsort(np.argsort(order[newest[order]]))
    mine, theirs = (one.try_out(settings).scores for one in (backtest, shuffled))
    np.testing.assert_allclose(theirs, mine[:, place], rtol=1e-5, atol=1e-5)

"""Claims about models that are trained to be measured once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.features import Encoder
from model.ranker import configure, try_out
from model.ranker.examples import Examples
from model.ranker.presets import Setup
from model.ranker.train import Split
from model.schema import Schema
from model.tables import TrainingTables

WEEK_MS = 7 * 86_400_000


@pytest.fixture(scope="module")
def setup(schema: Schema) -> Setup:
    config, training = configure("tiny", schema, ("product", "type"))
    return config, replace(training, validations=0, epochs=2)


@pytest.fixture(scope="module")
def split(world: TrainingTables, schema: Schema, setup: Setup) -> Split:
    """Eight weeks to learn from, one to calibrate on, one to measure."""
    examples = Examples.from_tables(world, Encoder(schema), setup[0])
    week = examples.rows.prefixes.now_ms // WEEK_MS
    return Split(examples, week < 8, week == 8, week == 9)


def test_a_trial_is_the_same_whatever_came_before_it(
    split: Split, schema: Schema, setup: Setup
) -> None:
    """So that an ablation that goes on ends as one that was not interrupted."""
    first = try_out(split, setup, schema)
    torch.manual_seed(9)
    other = try_out(split, (setup[0], replace(setup[1], seed=1)), schema)
    again = try_out(split, setup, schema)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert not np.array_equal(first.probabilities, other.probabilities)
    assert first.probabilities.shape == (split.held_out.sum(), 2)
    bought = split.examples.rows.labels[split.held_out, 0] > 0
    assert first.probabilities[bought, 0].mean() > 2 * first.probabilities[~bought, 0].mean()


def test_nothing_of_the_held_out_weeks_is_learned(
    split: Split, schema: Schema, setup: Setup
) -> None:
    """Neither a label nor what users bought then, which the table's warm start could read."""
    rows, histories = split.examples.rows, split.examples.histories
    labels = rows.labels.copy()
    labels[split.held_out] = 1 - labels[split.held_out]
    events = histories.events
    late = events.time_ms >= 9 * WEEK_MS
    ids = events.ids.copy()
    ids[late] = np.roll(ids[late], 1, axis=0)
    other = Split(
        replace(
            split.examples,
            rows=replace(rows, labels=labels),
            histories=replace(histories, events=replace(events, ids=ids)),
        ),
        split.train,
        split.validation,
        split.held_out,
    )
    mine, theirs = (try_out(one, setup, schema).probabilities for one in (split, other))
    # Visits are of a week's start, so that their own week's events are not among what they read.
    np.testing.assert_array_equal(mine, theirs)

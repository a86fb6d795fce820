"""Claims about training: it learns what was planted, repeats itself and says how far it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import checkpoints
from model.retriever import train_retriever
from model.schema import Schema
from model.tables import TablesInvalid, TrainingTables


def test_checkpoint_says_what_it_was_trained_on(
    folder: Path, world: TrainingTables, schema: Schema
) -> None:
    found = checkpoints.read(folder, "retriever", schema)
    assert found.data_window == world.window()
    assert found.metrics["examples"] > 0
    assert found.metrics["pairs"] > 0
    assert 0 <= found.metrics["recall_at_100"] <= 1


def test_progress_rises_to_its_total(world: TrainingTables, schema: Schema, tmp_path: Path) -> None:
    calls: list[tuple[int, int, float]] = []
    train_retriever(world, schema, "tiny", tmp_path / "one", lambda *call: calls.append(call))
    steps = [step for step, _, _ in calls]
    assert steps == list(range(len(steps)))
    assert {total for _, total, _ in calls} == {steps[-1]}
    assert not math.isnan(calls[-1][2])


def test_same_seed_gives_the_same_weights(
    world: TrainingTables, schema: Schema, tmp_path: Path, folder: Path
) -> None:
    """Whatever the process drew before; and training leaves the process's generator alone."""
    torch.manual_seed(77)
    state = torch.get_rng_state()
    train_retriever(world, schema, "tiny", tmp_path / "again")
    assert torch.equal(state, torch.get_rng_state())
    first = checkpoints.read(folder, "retriever")
    again = checkpoints.read(tmp_path / "again", "retriever")
    assert first.version == again.version
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(tensor, again.tensors[name])


def test_tables_without_a_purchase_of_an_ad_are_refused(
    world: TrainingTables, schema: Schema, tmp_path: Path
) -> None:
    for column in ("start_ms", "end_ms"):
        at = world.ads.column_names.index(column)
        late = pa.array([10**13 + (column == "end_ms")] * world.ads.num_rows, pa.int64())
        world = replace(world, ads=world.ads.set_column(at, column, late))
    with pytest.raises(TablesInvalid, match="no user bought"):
        train_retriever(world, schema, "tiny", tmp_path / "one")
    with pytest.raises(TablesInvalid, match="at least one row"):
        train_retriever(
            replace(world, events=world.events.slice(0, 0)), schema, "tiny", tmp_path / "one"
        )

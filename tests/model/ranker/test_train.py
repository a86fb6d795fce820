"""Claims about training: it learns, repeats itself, and never trains on what judges it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import checkpoints
from model.ranker import train
from model.ranker.inputs import Inputs
from model.ranker.presets import configure
from model.ranker.ranker import KIND, Ranker
from model.ranker.train import hide_context, train_ranker
from model.schema import Schema
from model.tables import RETRIEVAL, TablesInvalid, TrainingTables
from model.training import Options, loop

HISTORY = ("product", "type")
Trained = tuple[Path, dict[str, float]]


def test_it_learns_who_buys_what_again(trained: Trained) -> None:
    _, metrics = trained
    assert metrics["engage_gauc"] > 0.9
    assert metrics["engage_ne"] < 0.7
    assert metrics["consume_gauc"] > 0.9
    assert metrics["engage_calibration"] == pytest.approx(1.0, abs=0.01)
    assert 0.0 < metrics["gate_1_std"] < 0.5


def test_progress_counts_up_to_its_total(
    world: TrainingTables, schema: Schema, tmp_path: Path
) -> None:
    calls: list[tuple[int, int, float]] = []
    train_ranker(world, schema, "tiny", tmp_path / "r", lambda *call: calls.append(call))
    steps, totals, losses = zip(*calls, strict=True)
    assert list(steps) == sorted(set(steps))
    assert set(totals) == {steps[-1]}
    trained = [loss for loss in losses if not math.isnan(loss)]
    assert np.mean(trained[-10:]) < np.mean(trained[:10])


def test_the_same_tables_give_the_same_weights(
    world: TrainingTables, schema: Schema, trained: Trained, tmp_path: Path
) -> None:
    train_ranker(world, schema, "tiny", tmp_path / "again")
    first, second = (checkpoints.read(f, KIND) for f in (trained[0], tmp_path / "again"))
    assert first.version == second.version


def test_held_out_labels_reach_no_weight(
    world: TrainingTables, schema: Schema, trained: Trained, tmp_path: Path
) -> None:
    """They calibrate, and are counted in the response to ads as it is served."""
    visits = world.visits
    newest = visits["time_ms"].to_numpy() == visits["time_ms"].to_numpy().max()
    engage = np.where(newest, 1 - visits["engage"].to_numpy(), visits["engage"].to_numpy())
    at = visits.column_names.index("engage")
    column = pa.array(engage.astype(np.int8))
    turned = replace(world, visits=visits.set_column(at, "engage", column))
    train_ranker(turned, schema, "tiny", tmp_path / "turned")
    first, second = (checkpoints.read(f, KIND).tensors for f in (trained[0], tmp_path / "turned"))
    differing = {
        name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)
    }
    response = ("statistics.answered.columns", "statistics.answered_in.columns")
    served = {name for name in first if name.startswith(response)}
    assert differing == {"calibration.slope", "calibration.offset"} | served


def test_a_share_of_the_retriever_s_score_is_fitted_calibrated_and_kept(
    world: TrainingTables, schema: Schema, tmp_path: Path
) -> None:
    """Planted: a score that training sees at random and that is right where it is held out."""
    visits = world.visits
    noise = np.random.default_rng(0).normal(size=visits.num_rows)
    newest = visits["time_ms"].to_numpy() > visits["time_ms"].to_numpy().max() - 7 * 86_400_000
    scores = noise + 3 * newest * visits["engage"].to_numpy()
    retrieved = replace(world, visits=visits.append_column(RETRIEVAL, pa.array(scores)))
    metrics = train_ranker(retrieved, schema, "tiny", tmp_path / "r")
    trust = Ranker.load(tmp_path / "r").model.trust
    assert trust is not None
    assert trust.share[0] > 0.1
    assert metrics["engage_calibration"] == pytest.approx(1.0, abs=0.01)


def test_a_task_that_never_happens_has_no_metrics_and_no_nan(
    world: TrainingTables, schema: Schema, tmp_path: Path
) -> None:
    visits = world.visits
    at = visits.column_names.index("consume")
    never = pa.array(np.zeros(visits.num_rows, np.int8))
    tables = replace(world, visits=visits.set_column(at, "consume", never))
    metrics = train_ranker(tables, schema, "tiny", tmp_path / "r")
    assert "consume_ne" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_visits_that_are_all_held_out_are_refused(
    world: TrainingTables, schema: Schema, tmp_path: Path
) -> None:
    times = world.visits["time_ms"].to_numpy()
    (newest,) = np.nonzero(times == times.max())
    with pytest.raises(TablesInvalid, match="held out"):
        train_ranker(
            replace(world, visits=world.visits.take(newest)), schema, "tiny", tmp_path / "r"
        )


# A tower without any source is a bias, which is what is wanted here.
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_schema_of_items_alone_can_be_learned(world: TrainingTables, tmp_path: Path) -> None:
    """No profile, no context: the RO query is then the seeds alone."""
    metrics = train_ranker(world, Schema(("product",)), "tiny", tmp_path / "bare")
    assert metrics["engage_gauc"] > 0.9


def test_no_visits_are_refused(world: TrainingTables, schema: Schema, tmp_path: Path) -> None:
    with pytest.raises(TablesInvalid, match="visits"):
        train_ranker(replace(world, visits=world.visits[:0]), schema, "tiny", tmp_path / "none")
    assert not (tmp_path / "none").exists()


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    world: TrainingTables, schema: Schema, trained: Trained, tmp_path: Path
) -> None:
    options = Options(save_every_s=0.0)

    def kill(step: int, total: int, loss: float) -> None:
        if step == total // 2:
            raise Killed

    with pytest.raises(Killed):
        train_ranker(world, schema, "tiny", tmp_path / "cut", kill, options)
    steps: list[int] = []
    train_ranker(
        world, schema, "tiny", tmp_path / "cut", lambda *call: steps.append(call[0]), options
    )
    assert steps[1] == steps[-1] // 2 - 1, "it did not go on where the state was kept"
    again, whole = (checkpoints.read(folder, KIND) for folder in (tmp_path / "cut", trained[0]))
    assert again.version == whole.version
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_held_out_visits_are_learned_from_after_they_have_judged(
    world: TrainingTables,
    schema: Schema,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a run that is killed meanwhile goes on where it was."""
    config, training = configure("tiny", schema, HISTORY)
    setup = config, replace(training, refit=0.5)
    metrics = train_ranker(world, schema, setup, tmp_path / "whole")
    assert {**metrics, "train_s": 0.0} == {**trained[1], "train_s": 0.0}
    before, whole = (checkpoints.read(f, KIND).tensors for f in (trained[0], tmp_path / "whole"))
    changed = {name for name in whole if not np.array_equal(before[name], whole[name])}
    assert "model.moa.embedding.weight" in changed
    assert not changed & {"calibration.slope", "calibration.offset"}

    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    calls = iter(range(len(report["curves"]["fit"]["losses"]) + 2))

    def hide_or_kill(*arguments: Any) -> Inputs:
        if next(calls, None) is None:
            raise Killed
        return hide_context(*arguments)

    options = Options(save_every_s=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(train, "hide_context", hide_or_kill)
        with pytest.raises(Killed):
            train_ranker(world, schema, setup, tmp_path / "cut", options=options)
    train_ranker(world, schema, setup, tmp_path / "cut", options=options)
    again = json.loads((tmp_path / "cut" / "report.json").read_text())
    assert again["curves"]["refit"]["resumed"] == [2]
    versions = {checkpoints.read(tmp_path / name, KIND).version for name in ("whole", "cut")}
    assert len(versions) == 1


def test_fresh_visits_are_learned_from_a_checkpoint(
    world: TrainingTables, schema: Schema, trained: Trained, tmp_path: Path
) -> None:
    """Three of ten weeks: too few to learn from chance what the checkpoint knows."""
    since_ms = 7 * 7 * 86_400_000
    options = Options(since_ms=since_ms, base=trained[0])
    warm = train_ranker(world, schema, "tiny", tmp_path / "warm", options=options)
    cold = train_ranker(
        world, schema, "tiny", tmp_path / "cold", options=Options(since_ms=since_ms)
    )
    assert warm["rows"] == cold["rows"] < trained[1]["rows"] / 4
    assert warm["held_out_rows"] == trained[1]["held_out_rows"]
    assert warm["engage_ne"] < cold["engage_ne"]


def test_a_checkpoint_of_other_sizes_is_no_start(
    world: TrainingTables, schema: Schema, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(checkpoints.CheckpointMismatch, match=r"moa\.width: 16 -> 32"):
        train_ranker(world, schema, "demo", tmp_path / "r", options=Options(base=trained[0]))


def test_the_report_shows_loss_calibration_and_gates(trained: Trained) -> None:
    folder, metrics = trained
    report = json.loads((folder / "report.json").read_text())
    assert report["metrics"] == metrics
    deciles = report["calibration"]["engage"]
    assert sum(deciles["rows"]) == metrics["held_out_rows"]
    assert deciles["predicted"] == sorted(deciles["predicted"])
    mean = np.average(deciles["happened"], weights=deciles["rows"])
    assert mean == pytest.approx(metrics["engage_base_rate"])
    gate = report["gates"]["gate 0"]
    assert gate["mean"] == pytest.approx(metrics["gate_0_mean"])
    assert sum(gate["shares"]) == pytest.approx(1.0)
    for name in ("loss.png", "calibration.png", "gates.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_mixed_precision_trains_as_well(
    world: TrainingTables,
    schema: Schema,
    tmp_path: Path,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What CUDA does, on the CPU: every operation takes bfloat16 where autocast brings it."""
    monkeypatch.setattr(loop, "autocast", lambda device: torch.autocast("cpu", torch.bfloat16))
    metrics = train_ranker(world, schema, "tiny", tmp_path / "mixed")
    assert metrics["engage_ne"] == pytest.approx(trained[1]["engage_ne"], abs=0.02)
    first, second = (checkpoints.read(f, KIND) for f in (trained[0], tmp_path / "mixed"))
    assert first.version != second.version

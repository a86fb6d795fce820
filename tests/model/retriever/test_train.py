"""Claims about training: it learns what was planted, repeats itself and says how far it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import checkpoints
from model.retriever import train_retriever
from model.retriever.parts import Parts
from model.retriever.vocabulary import Vocabulary
from model.retriever.warm_start import warm_start
from model.schema import Schema
from model.tables import TablesInvalid, TrainingTables
from model.training import Options, loop


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
    assert steps == sorted(set(steps))
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


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("share", [0.2, 0.6], ids=["in the trial", "in the second learning"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    world: TrainingTables, schema: Schema, tmp_path: Path, folder: Path, share: float
) -> None:
    options = Options(save_every_s=0.0)

    def kill(step: int, total: int, loss: float) -> None:
        if step >= share * total:
            raise Killed

    with pytest.raises(Killed):
        train_retriever(world, schema, "tiny", tmp_path / "cut", kill, options)
    assert not (tmp_path / "cut").exists()
    train_retriever(world, schema, "tiny", tmp_path / "cut", options=options)
    curves = json.loads((tmp_path / "cut" / "report.json").read_text())["curves"]
    assert curves["trial" if share < 0.5 else "final"]["resumed"], "it began anew"
    again, whole = (checkpoints.read(f, "retriever") for f in (tmp_path / "cut", folder))
    assert again.version == whole.version
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_a_warm_start_on_the_same_data_without_a_step_is_the_checkpoint(
    world: TrainingTables, schema: Schema, folder: Path
) -> None:
    base, _ = Parts.load(folder, schema)
    network = Parts.network_for(base.settings, schema, len(base.vocabulary), len(base.profiles))
    warm_start(network, base.vocabulary, base.profiles, base)
    for name, weight in base.network.state_dict().items():
        assert torch.equal(weight, network.state_dict()[name])


def test_a_warm_start_moves_rows_to_where_their_values_have_gone(
    schema: Schema, folder: Path
) -> None:
    """New values take rows between the old ones, whose weights must go with their values."""
    base, _ = Parts.load(folder, schema)
    fresh = Vocabulary(base.vocabulary.ids[::3] + 1, base.vocabulary.fields)
    vocabulary = base.vocabulary.joined(fresh)
    network = Parts.network_for(base.settings, schema, len(vocabulary), len(base.profiles))
    warm_start(network, vocabulary, base.profiles, base)
    old, new = base.network.ad_tower.ads.weight, network.ad_tower.ads.weight
    for row, raw_id in enumerate(base.vocabulary.ids):
        (at,) = np.flatnonzero(vocabulary.ids == raw_id)
        assert torch.equal(old[row], new[at])
    assert torch.equal(old[-base.vocabulary.fields :], new[-base.vocabulary.fields :])


def test_fresh_periods_alone_are_learned_from_a_checkpoint(
    world: TrainingTables, schema: Schema, tmp_path: Path, folder: Path
) -> None:
    """The newest period measures the checkpoint before it is learned from."""
    since_ms = world.ads["start_ms"].to_numpy().max()
    options = Options(since_ms=int(since_ms), base=folder)
    metrics = train_retriever(world, schema, "tiny", tmp_path / "next", options=options)
    assert 0 < metrics["examples"] < checkpoints.read(folder, "retriever").metrics["examples"]
    window = checkpoints.read(tmp_path / "next", "retriever", schema).data_window
    assert window == world.window() | {"since_ms": int(since_ms)}
    with pytest.raises(TablesInvalid, match="there are 1"):
        train_retriever(
            world, schema, "tiny", tmp_path / "cold", options=Options(since_ms=int(since_ms))
        )


def test_the_report_lies_in_the_checkpoint_s_folder(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert set(report["curves"]) == {"trial", "final"}
    trial = report["curves"]["trial"]
    assert trial["steps"] == len(trial["losses"]) == len(trial["norms"])
    assert trial["kept"] in [step for step, _ in trial["validations"]]
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_mixed_precision_trains_as_well(
    world: TrainingTables,
    schema: Schema,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What CUDA does, on the CPU: every operation takes bfloat16 where autocast brings it."""
    monkeypatch.setattr(loop, "autocast", lambda device: torch.autocast("cpu", torch.bfloat16))
    metrics = train_retriever(world, schema, "tiny", tmp_path / "mixed")
    whole = checkpoints.read(folder, "retriever")
    assert metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=0.05)
    assert checkpoints.read(tmp_path / "mixed", "retriever").version != whole.version

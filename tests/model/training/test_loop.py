"""Claims about the loop: it stops when it should, keeps the best, and can be taken up again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.training import (
    Curve,
    Descent,
    Options,
    Rules,
    Run,
    Stage,
    TrainingDiverged,
    fit,
    one_cycle,
)

STEPS = 40
KEEP_ALL = Options(save_every_s=0.0)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@dataclass
class Task:
    """A noisy regression with dropout, so that torch's generator matters at each step."""

    model: nn.Module
    data: Tensor

    def loss_at(self, step: int) -> Tensor:
        rows = self.data[torch.randint(len(self.data), (8,))]
        loss: Tensor = (self.model(rows) - rows.sum(1, keepdim=True)).square().mean()
        return loss


def task() -> Task:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 1))
    return Task(model, torch.randn(64, 4))


def learn(
    folder: Path,
    options: Options = KEEP_ALL,
    kill_at: int | None = None,
    rules: Rules = Rules(1.0, validations=8),  # noqa: B008
) -> tuple[dict[str, Tensor], Curve]:
    with torch.random.fork_rng(devices=[]):
        one = task()

        def loss_at(step: int) -> Tensor:
            if step == kill_at:
                raise Killed
            return one.loss_at(step)

        def validate() -> float:
            return (one.model(one.data) - one.data.sum(1, keepdim=True)).square().mean().item()

        split = [list(one.model[0].parameters()), list(one.model[3].parameters())]
        descents = [
            one_cycle(torch.optim.Adam(split[0], 0.01), 0.01, STEPS),
            one_cycle(torch.optim.SGD(split[1], 0.01, momentum=0.9), 0.01, STEPS),
        ]
        stage = Run(folder / "out", {"task": 1}, options).stage("fit")
        curve = fit(one.model, descents, STEPS, loss_at, rules, stage, validate=validate)
        return one.model.state_dict(), curve


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kills", [(1,), (17,), (39,), (3, 20, 21)])
def test_a_killed_loop_ends_as_one_that_was_not(tmp_path: Path, kills: tuple[int, ...]) -> None:
    """Two optimisers, their schedules, the generator and the best weights so far all go on."""
    whole, curve = learn(tmp_path / "whole")
    for step in kills:
        with pytest.raises(Killed):
            learn(tmp_path / "cut", kill_at=step)
    again, resumed = learn(tmp_path / "cut")
    assert_equal(whole, again)
    assert resumed.losses == curve.losses
    assert resumed.validations == curve.validations
    assert resumed.resumed == list(kills)


def test_a_state_of_some_steps_ago_does_as_well(tmp_path: Path) -> None:
    """Between two savings steps are lost, and taken again alike."""
    whole, _ = learn(tmp_path / "whole")
    with pytest.raises(Killed):
        learn(tmp_path / "cut", kill_at=5)
    with pytest.raises(Killed):
        learn(tmp_path / "cut", Options(save_every_s=math.inf), kill_at=30)
    again, resumed = learn(tmp_path / "cut")
    assert resumed.resumed == [5]
    assert_equal(whole, again)


def test_without_resume_it_begins_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learn(tmp_path / "cut", kill_at=20)
    _, curve = learn(tmp_path / "cut", Options(resume=False))
    assert curve.resumed == []
    assert len(curve.losses) == STEPS


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    """The loss falls, then rises: the loop ends two validations later, on the weights before."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    stage = Run(tmp_path / "out", {}, Options()).stage("fit")
    seen: list[float] = []

    def validate() -> float:
        seen.append(model.weight.item())
        return abs(model.weight.item() - 3.0)

    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    flat = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    curve = fit(
        model,
        [Descent(optimiser, flat)],
        20,
        lambda step: -model.weight.sum(),
        Rules(clip_norm=9.0, validations=20, patience=2),
        stage,
        validate=validate,
    )
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (curve.kept, model.weight.item()) == (3, 3.0)
    assert not model.training


def test_gradients_are_clipped_and_their_norms_noted(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    flat = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    stage = Run(tmp_path / "out", {}, Options()).stage("fit")
    curve = fit(
        model,
        [Descent(optimiser, flat)],
        1,
        lambda step: 50.0 * model.weight.sum(),
        Rules(clip_norm=2.0),
        stage,
    )
    assert curve.norms == [50.0]
    assert model.weight.item() == pytest.approx(-2.0)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    """One step later all weights would be none either, and a checkpoint of them worthless."""
    model = nn.Linear(1, 1, bias=False)
    weight = model.weight.item()
    descent = one_cycle(torch.optim.SGD(model.parameters(), 0.0, momentum=0.9), 0.0, 4)
    stage = Run(tmp_path / "out", {}, Options()).stage("fit")
    with pytest.raises(TrainingDiverged, match="fit: the loss of step 2 is nan"):
        fit(
            model,
            [descent],
            4,
            lambda step: model.weight.sum() * (math.nan if step == 2 else 1.0),
            Rules(1.0),
            stage,
        )
    assert model.weight.item() == weight


def test_undefined_validations_do_not_stop_it(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    curve = fit(
        model,
        [one_cycle(torch.optim.Adam(model.parameters(), 0.1), 0.1, 10)],
        10,
        lambda step: model.weight.square().sum(),
        Rules(1.0, validations=10, patience=1),
        Run(tmp_path / "out", {}, Options()).stage("fit"),
        validate=lambda: math.nan,
    )
    assert (len(curve.losses), curve.kept, curve.validations) == (10, 10, [])


@pytest.mark.parametrize(("steps", "validations"), [(10, 3), (7, 7), (100, 8), (5, 9)])
def test_validations_are_even_and_the_last_is_at_the_end(steps: int, validations: int) -> None:
    rules = Rules(1.0, validations)
    due = [done for done in range(1, steps + 1) if rules.due(done, steps)]
    assert len(due) == min(steps, validations)
    assert due[-1] == steps


def test_a_run_of_other_settings_starts_over(tmp_path: Path) -> None:
    Run(tmp_path / "out", {"data": "a"}, KEEP_ALL).once("part", lambda: 1)
    assert Run(tmp_path / "out", {"data": "a"}, KEEP_ALL).once("part", lambda: 2) == 1
    assert Run(tmp_path / "out", {"data": "b"}, KEEP_ALL).once("part", lambda: 2) == 2


def test_a_finished_run_leaves_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", {}, KEEP_ALL)
    run.once("part", lambda: 1)
    assert list(tmp_path.iterdir())
    run.finish()
    assert not list(tmp_path.iterdir())


def test_a_stage_is_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", {}, KEEP_ALL)
    stage: Stage = run.stage("one")
    stage.save(3, lambda: {"weights": 1})
    assert stage.restore() == {"weights": 1}
    assert run.stage("two").restore() is None

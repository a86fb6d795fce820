"""Loop: how a network takes its steps.

Owns clipping, validation and early stopping, mixed precision, and the saving of a run. Promises
that a loop which was killed and taken up again ends with the weights of one that was not, bit for
bit, on one machine with one number of threads; so the loss of a step must depend on the step's
number, the weights and torch's generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .device import autocast
from .run import Stage

# Share of the steps in which the learning rate rises: Adam's averages settle meanwhile.
WARM_UP = 0.1


class TrainingDiverged(RuntimeError):
    """A step's loss is no number any more: the weights are lost."""


@dataclass(frozen=True)
class Rules:
    """When a loop is reined in.

    Attributes:
        clip_norm: largest norm of a step's gradient; a longer one is shortened to it.
        validations: how often a loop validates, evenly over its steps; 0 never, and the last
            weights are kept.
        patience: so many validations in a row without a better one end the loop.
    """

    clip_norm: float
    validations: int = 0
    patience: int = 2

    def due(self, done: int, steps: int) -> bool:
        """Whether a validation follows the step that was the `done`-th of `steps`."""
        return done * self.validations // steps > (done - 1) * self.validations // steps


@dataclass
class Curve:
    """What a loop measured.

    Attributes:
        losses: loss of each step taken.
        norms: norm of its gradient, before it was shortened.
        validations: (steps taken, validation loss).
        kept: steps behind the weights that were kept.
        resumed: steps at which the loop was taken up again.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    kept: int = 0
    resumed: list[int] = field(default_factory=list)

    def final_loss(self) -> float:
        """Mean over the last tenth of the steps."""
        last = self.losses[-max(len(self.losses) // 10, 1) :]
        return sum(last) / len(last) if last else math.nan

    def exhausted(self, patience: int) -> bool:
        """Whether the newest validations brought nothing better for too long."""
        later = sum(at > self.kept for at, _ in self.validations)
        return later >= patience


@dataclass(frozen=True)
class Descent:
    """An optimiser and the schedule of its learning rate."""

    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def one_cycle(optimiser: torch.optim.Optimizer, learning_rate: float, steps: int) -> Descent:
    """A learning rate that rises once, over the first tenth of the steps, and falls once."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps + 1, pct_start=WARM_UP
    )
    return Descent(optimiser, schedule)


def fit(
    model: nn.Module,
    descents: Sequence[Descent],
    steps: int,
    loss_at: Callable[[int], Tensor],
    rules: Rules,
    stage: Stage,
    advance: Callable[[int, float], None] = lambda pieces, loss: None,
    validate: Callable[[], float] | None = None,
) -> Curve:
    """Take the steps, or those that a killed run has left; the model is then in evaluation mode.

    Args:
        model: on the device on which it learns.
        descents: one or more, over disjoint parameters.
        steps: how many, unless early stopping ends the loop.
        loss_at: a step's loss, by its number from 0.
        rules: of clipping and early stopping.
        stage: where the loop's state is kept.
        advance: told how many steps more are done, and the latest loss.
        validate: loss on examples that are not learned from; the lower the better. The model is
            in evaluation mode.
    """
    loop = _Loop(model, descents, Curve())
    if (parts := stage.restore()) is not None:
        loop.restore(parts)
        if loop.step:
            advance(loop.step, loop.curve.losses[-1])
    device = next(model.parameters()).device
    model.train()
    curve = loop.curve
    while loop.step < steps and not curve.exhausted(rules.patience):
        with autocast(device):
            loss = loss_at(loop.step)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"{stage.name}: the loss of step {loop.step} is {loss.item()}; look for extreme "
                "values in the data, or train with a smaller learning rate"
            )
        for descent in descents:
            descent.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), rules.clip_norm)
        for descent in descents:
            descent.optimiser.step()
            descent.schedule.step()
        curve.losses.append(loss.item())
        curve.norms.append(norm.item())
        if validate is not None and rules.due(loop.step, steps):
            model.eval()
            loop.judge(validate())
            model.train()
        advance(1, curve.losses[-1])
        stage.save(loop.step, loop.parts)
    loop.keep()
    model.eval()
    return curve


@dataclass
class _Loop:
    """Everything of a loop that changes from step to step."""

    model: nn.Module
    descents: Sequence[Descent]
    curve: Curve
    best: dict[str, Tensor] | None = None

    @property
    def step(self) -> int:
        """Steps taken."""
        return len(self.curve.losses)

    def judge(self, loss: float) -> None:
        """Note a validation, unless it is undefined, and the weights if it is the best."""
        if math.isnan(loss):
            return
        best = min((value for _, value in self.curve.validations), default=math.inf)
        self.curve.validations.append((self.step, loss))
        if loss < best:
            self.curve.kept = self.step
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}

    def keep(self) -> None:
        """Go back to the best weights, if any were judged."""
        if self.best is None:
            self.curve.kept = self.step
        else:
            self.model.load_state_dict(self.best)

    def parts(self) -> dict[str, Any]:
        """The whole loop, for `restore`."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "model": dict(self.model.state_dict()),
            "best": self.best,
            "descents": [
                (descent.optimiser.state_dict(), descent.schedule.state_dict())
                for descent in self.descents
            ],
            "curve": vars(self.curve),
            "random": (torch.get_rng_state(), cuda),
        }

    def restore(self, parts: dict[str, Any]) -> None:
        """Become the loop that gave these parts."""
        self.model.load_state_dict(parts["model"])
        self.best = parts["best"]
        for descent, (optimiser, schedule) in zip(self.descents, parts["descents"], strict=True):
            descent.optimiser.load_state_dict(optimiser)
            descent.schedule.load_state_dict(schedule)
        for name, value in parts["curve"].items():
            setattr(self.curve, name, value)
        self.curve.resumed.append(self.step)
        host, cuda = parts["random"]
        torch.set_rng_state(host)
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(cuda)

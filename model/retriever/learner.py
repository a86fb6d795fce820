"""Learner: a network takes its steps over periods.

Owns the loss of a step and what training hides. Promises the same network from the same periods
and settings, however often the run was killed. Which periods, and what for, is `train`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..progress import Pulse
from ..schema import Schema
from ..training import Curve, Rules, Stage, fit, one_cycle, pick_device, to_device
from .evaluation import recall
from .loss import LOSSES
from .network import Network
from .parts import Parts
from .periods import Example, Period, batches
from .presets import RetrieverSettings
from .priors import COLUMN_NAMES
from .tensors import PeriodTensors, UserTensors
from .vocabulary import Vocabulary
from .warm_start import warm_start

# Every so many examples give one to the estimate of means and deviations of the statistics.
_SAMPLED = 5


@dataclass(frozen=True)
class Learner:
    """What all rounds of a run have in common.

    Attributes:
        settings, schema: of the run.
        vocabulary, profiles: rows of the embedding tables.
        base: what the networks start from; None for chance.
        pulse: told after every step.
    """

    settings: RetrieverSettings
    schema: Schema
    vocabulary: Vocabulary
    profiles: Vocabulary
    base: Parts | None
    pulse: Pulse

    def try_out(
        self, periods: list[Period], held_out: list[Period], stage: Stage
    ) -> dict[str, Any]:
        """Learn from some periods, none without a base, and measure on others.

        Returns:
            recall, users; share: of the steps, after which the weights were best; curve.
        """
        if periods:
            network, curve = self.learn(periods, stage, held_out)
            share = curve.kept / step_count(periods, self.settings)
        else:
            network, curve, share = self._network(held_out).eval(), Curve(), 1.0
        measured, users = recall(network, held_out, self.profiles)
        return {"recall": measured, "users": users, "share": share, "curve": vars(curve)}

    def learn(
        self,
        periods: list[Period],
        stage: Stage,
        held_out: list[Period] | None = None,
        share: float = 1.0,
    ) -> tuple[Network, Curve]:
        """A network trained on periods, in evaluation mode.

        Args:
            periods: what to learn from.
            stage: of the run.
            held_out: what to validate on, as often as the settings say.
            share: of the steps to take, in the schedule of all of them.
        """
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.manual_seed(self.settings.seed)
            network = self._network(periods)
            curve = self._fit(network, periods, stage, held_out, share)
            return network.cpu(), curve

    def _network(self, periods: list[Period]) -> Network:
        """The network before its first step."""
        network = Parts.network_for(
            self.settings, self.schema, len(self.vocabulary), len(self.profiles)
        )
        if self.base is not None:
            warm_start(network, self.vocabulary, self.profiles, self.base)
            return network
        sampled = [
            UserTensors.of(
                [example.user for example in period.examples[::_SAMPLED]],
                period.values,
                self.profiles,
            )
            for period in periods
        ]
        priors = [period.priors[period.rows].reshape(-1, len(COLUMN_NAMES)) for period in periods]
        network.statistics.fit(np.concatenate([users.hit_columns.numpy() for users in sampled]))
        network.known.fit(np.concatenate([users.known_columns.numpy() for users in sampled]))
        network.priors.fit(np.concatenate(priors))
        return network

    def _fit(
        self,
        network: Network,
        periods: list[Period],
        stage: Stage,
        held_out: list[Period] | None,
        share: float,
    ) -> Curve:
        """Take the steps."""
        settings, device = self.settings, pick_device()
        draw = np.random.default_rng(settings.seed)
        steps = [
            (period, part)
            for _ in range(settings.epochs)
            for period in periods
            for part in batches(period.examples, settings.batch, draw)
        ]
        order = draw.permutation(len(steps))
        network.to(device)
        optimiser = torch.optim.AdamW(network.groups(settings.tower_decay), settings.learning_rate)
        tensors = {id(period): to_device(PeriodTensors.of(period), device) for period in periods}

        def loss_at(step: int) -> Tensor:
            period, part = steps[order[step]]
            return self._loss(network, period, tensors[id(period)], part, settings.hide)

        return fit(
            network,
            [one_cycle(optimiser, settings.learning_rate, len(steps))],
            round(share * len(steps)),
            loss_at,
            Rules(settings.clip_norm, settings.validations, settings.patience),
            stage,
            self.pulse.advance,
            (lambda: self._mean_loss(network, held_out)) if held_out else None,
        )

    def _mean_loss(self, network: Network, periods: list[Period]) -> float:
        """Mean loss over the users of periods, nothing hidden."""
        device = next(network.parameters()).device
        size, total, users = self.settings.batch, 0.0, 0
        with torch.inference_mode():
            for period in periods:
                ads = to_device(PeriodTensors.of(period), device)
                for start in range(0, len(period.examples), size):
                    part = period.examples[start : start + size]
                    total += len(part) * self._loss(network, period, ads, part, hide=0.0).item()
                    users += len(part)
        return total / users

    def _loss(
        self,
        network: Network,
        period: Period,
        ads: PeriodTensors,
        part: list[Example],
        hide: float,
    ) -> Tensor:
        """Mean loss of some of a period's users, a share of all values hidden."""
        device = ads.rows.device
        users = UserTensors.of([example.user for example in part], period.values, self.profiles)
        worth = torch.zeros(len(part), len(period.items))
        for row, example in enumerate(part):
            spent = np.maximum(example.spent, 0) ** self.settings.value_power
            worth[row, torch.from_numpy(example.bought)] = torch.from_numpy(spent)
        ad_rows = ads.rows
        if hide:
            known = len(self.profiles.ids)
            users = replace(users, profile_rows=_hide(users.profile_rows, known, hide))
            ad_rows = _hide(ads.rows, len(self.vocabulary.ids), hide)
        scores = network(ads, to_device(users, device), ad_rows)
        return LOSSES[self.settings.loss](scores, worth.to(device))


def step_count(periods: list[Period], settings: RetrieverSettings) -> int:
    """How many steps learning from periods takes."""
    parts = [math.ceil(len(period.examples) / settings.batch) for period in periods]
    return settings.epochs * sum(parts)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: steps are so small that handing over to a second one costs more
    than it takes off, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _hide(rows: Tensor, known: int, share: float) -> Tensor:
    """[B, fields] rows with a random share of them replaced by the field's unknown row."""
    unknown = torch.arange(rows.shape[1], device=rows.device) + known
    return torch.where(torch.rand(rows.shape, device=rows.device) < share, unknown, rows)

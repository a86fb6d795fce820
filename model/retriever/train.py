"""Training: tables become a retriever's checkpoint.

Owns the run: vocabulary, periods, steps, held-out measurement, export. Promises a checkpoint whose
priors and co-occurrences are as of the end of the tables. Loops and numbers only; what is learned
is in `network`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
import torch

from .. import checkpoints
from ..features import Encoder
from ..progress import Progress, silent
from ..schema import Schema
from ..tables import TablesInvalid, TrainingTables
from . import cooccurrence
from .evaluation import RECALL_AT, recall
from .loss import pairwise_loss
from .network import Network
from .parts import KIND, Parts
from .periods import Period, PeriodBuilder, batches
from .population import Population
from .presets import PRESETS, Preset, RetrieverSettings
from .priors import COLUMN_NAMES
from .tensors import PeriodTensors, UserTensors
from .vocabulary import Vocabulary

log = structlog.get_logger(__name__)

# Share of the steps in which the learning rate rises: Adam's averages settle meanwhile.
_WARM_UP = 0.1
# Every so many examples give one to the estimate of means and deviations of the statistics.
_SAMPLED = 5


def train_retriever(
    tables: TrainingTables,
    schema: Schema,
    preset: Preset,
    out: Path,
    progress: Progress = silent,
) -> dict[str, float]:
    """Train a retriever and write its checkpoint.

    Args:
        tables: one period of data; its newest ad periods are held out.
        schema: the fields to learn from.
        preset: "tiny" or "demo".
        out: the checkpoint's folder, replaced if it exists.
        progress: told after every period prepared and every step.

    Returns:
        loss (over the last tenth of the steps), recall (see `evaluation`) and users of the
        held-out periods, examples, parameters, pairs, seconds.

    Raises:
        TablesInvalid: a column is missing, there is no event or no ad, or no user bought an
            advertised item while it was advertised.
    """
    started = time.perf_counter()
    tables.check(schema)
    if not tables.events.num_rows or not tables.ads.num_rows:
        raise TablesInvalid("events and ads must each have at least one row")
    settings = PRESETS[preset]

    population = Population.of(tables, Encoder(schema))
    vocabulary = Vocabulary.of(population.values(), settings.min_count)
    profiles = Vocabulary.of(np.hstack((population.profiles, population.contexts)), 1)
    builder = PeriodBuilder(population, vocabulary, settings.history_events)
    chosen = [at for at in range(len(population.periods)) if builder.buyers(at)]
    chosen = chosen[-(settings.train_periods + settings.held_out_periods) :]
    if len(chosen) <= settings.held_out_periods:
        raise TablesInvalid("no user bought an item in a period in which it was advertised")
    learned = len(chosen) - settings.held_out_periods
    examples = [builder.buyers(at) for at in chosen]
    batches_of = [math.ceil(count / settings.batch) for count in examples]
    steps = settings.epochs * (sum(batches_of[:learned]) + sum(batches_of))
    pulse = _Pulse(progress, len(chosen) + steps + 1)

    periods = _prepare(population, builder, chosen, settings, pulse)
    # Learned twice: once without the newest periods, to say how well it does on them, and then
    # with them, because the newest weeks resemble the next one most.
    trial, _ = _learn(periods[:learned], vocabulary, profiles, schema, settings, pulse)
    measured, users = recall(trial, periods[learned:], profiles)
    network, loss = _learn(periods, vocabulary, profiles, schema, settings, pulse)

    now_ms = population.end_ms()
    pairs = cooccurrence.fit(
        *population.met(now_ms), population.advertised(now_ms), settings.cooccurrence
    )
    parts = Parts(
        settings=settings,
        schema=schema,
        network=network,
        vocabulary=vocabulary,
        profiles=profiles,
        cooccurrence=pairs,
        priors=builder.priors(now_ms)[0],
        ad_scales=np.ones(settings.network.joint, np.float32),
    )
    parts = parts.scaled(np.concatenate([population.periods[at].items for at in chosen]))
    metrics = {
        "loss": loss,
        f"recall_at_{RECALL_AT}": measured,
        "held_out_users": float(users),
        "examples": float(sum(examples)),
        "parameters": float(sum(weights.numel() for weights in network.parameters())),
        "pairs": float(len(pairs.pair_targets)),
        "seconds": time.perf_counter() - started,
    }
    version = checkpoints.write(
        out,
        kind=KIND,
        schema=schema,
        config=settings.to_dict(),
        metrics=metrics,
        data_window=tables.window(),
        tensors=parts.pack(),
    )
    pulse.advance(loss)
    log.info("retriever_trained", version=version, folder=str(out), **metrics)
    return metrics


class _Pulse:
    """Counts the pieces of a run."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._step = progress, total, 0
        progress(0, total, math.nan)

    def advance(self, loss: float = math.nan) -> None:
        """One piece more is done."""
        self._step += 1
        self._progress(self._step, self._total, loss)


def _prepare(
    population: Population,
    builder: PeriodBuilder,
    chosen: list[int],
    settings: RetrieverSettings,
    pulse: _Pulse,
) -> list[Period]:
    """Build periods in blocks; each block's regression knows only what was before the block.

    A regression over a period's own purchases would recognise them, and its gain would be learned
    far too high.
    """
    periods = []
    learned = max(len(chosen) - settings.held_out_periods, 1)
    for start in range(0, learned, settings.block_periods):
        end = start + settings.block_periods
        # What is held out follows the last block that is learned from.
        block = chosen[start : end if end < learned else None]
        first_ms = population.periods[block[0]].start_ms
        pairs = cooccurrence.fit(
            *population.met(first_ms), population.advertised(first_ms), settings.cooccurrence
        )
        for at in block:
            periods.append(builder.build(at, pairs))
            pulse.advance()
    return periods


def _learn(
    periods: list[Period],
    vocabulary: Vocabulary,
    profiles: Vocabulary,
    schema: Schema,
    settings: RetrieverSettings,
    pulse: _Pulse,
) -> tuple[Network, float]:
    """A network trained on periods, in evaluation mode, and its final loss."""
    sides = [example.user for period in periods for example in period.examples[::_SAMPLED]]
    priors = [period.priors[period.rows].reshape(-1, len(COLUMN_NAMES)) for period in periods]
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(settings.seed)
        network = Parts.network_for(settings, schema, len(vocabulary), len(profiles))
        network.statistics.fit(np.concatenate([side.columns for side in sides]))
        network.priors.fit(np.concatenate(priors))
        return network, _fit(network, periods, vocabulary, profiles, settings, pulse)


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


def _fit(
    network: Network,
    periods: list[Period],
    vocabulary: Vocabulary,
    profiles: Vocabulary,
    settings: RetrieverSettings,
    pulse: _Pulse,
) -> float:
    """Take all steps; returns the mean loss of the last tenth of them."""
    draw = np.random.default_rng(settings.seed)
    steps = [
        (period, part)
        for _ in range(settings.epochs)
        for period in periods
        for part in batches(period.examples, settings.batch, draw)
    ]
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=len(steps) + 1, pct_start=_WARM_UP
    )
    tensors = {id(period): PeriodTensors.of(period) for period in periods}
    losses = []
    network.train()
    for at in draw.permutation(len(steps)):
        period, part = steps[at]
        ads = tensors[id(period)]
        users = UserTensors.of([example.user for example in part], period.values, profiles)
        worth = torch.zeros(len(part), len(period.items))
        for row, example in enumerate(part):
            spent = np.maximum(example.spent, 0) ** settings.value_power
            worth[row, torch.from_numpy(example.bought)] = torch.from_numpy(spent)
        users = replace(
            users, profile_rows=_hide(users.profile_rows, len(profiles.ids), settings.hide)
        )
        hidden = _hide(ads.rows, len(vocabulary.ids), settings.hide)
        scores = network(ads, users, hidden)
        loss = pairwise_loss(scores, worth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        pulse.advance(losses[-1])
    network.eval()
    return float(np.mean(losses[-max(len(losses) // 10, 1) :]))


def _hide(rows: torch.Tensor, known: int, share: float) -> torch.Tensor:
    """[B, fields] rows with a random share of them replaced by the field's unknown row."""
    unknown = torch.arange(rows.shape[1]) + known
    return torch.where(torch.rand(rows.shape) < share, unknown, rows)

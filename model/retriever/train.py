"""Training: tables become a retriever's checkpoint.

Owns the run: vocabulary, periods, held-out measurement, export. Promises a checkpoint whose priors
and co-occurrences are as of the end of the tables. What is learned is in `network`, and step by
step in `learner`.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch

from .. import checkpoints
from ..features import Encoder
from ..progress import Progress, Pulse, silent
from ..schema import Schema
from ..tables import TablesInvalid, TrainingTables
from ..training import DEFAULTS, Curve, Options, Report, Run
from . import cooccurrence
from .evaluation import RECALL_AT, recall
from .learner import Learner
from .parts import KIND, Parts
from .periods import Period, PeriodBuilder
from .population import Population
from .presets import PRESETS, Preset, RetrieverSettings
from .refresh import known_by_the_end
from .vocabulary import Vocabulary

log = structlog.get_logger(__name__)


def train_retriever(
    tables: TrainingTables,
    schema: Schema,
    preset: Preset,
    out: Path,
    progress: Progress = silent,
    options: Options = DEFAULTS,
    seed: int = 0,
) -> dict[str, float]:
    """Train a retriever and write its checkpoint.

    Args:
        tables: one period of data; its newest ad periods are held out.
        schema: the fields to learn from.
        preset: "tiny", "demo" or "small".
        out: the checkpoint's folder, replaced if it exists.
        progress: told after every period prepared and every step.
        options: where to begin, and whether to go on with a run that was killed.
        seed: of weights and order.

    Returns:
        loss (over the last tenth of the steps), recall (see `evaluation`) and users of the
        held-out periods, examples, parameters, pairs, seconds.

    Raises:
        TablesInvalid: a column is missing, there is no event or no ad, or no user bought an
            advertised item while it was advertised.
        CheckpointError: the checkpoint to start from cannot be used.
    """
    started = time.perf_counter()
    tables.check(schema)
    if not tables.events.num_rows or not tables.ads.num_rows:
        raise TablesInvalid("events and ads must each have at least one row")
    settings = replace(PRESETS[preset], seed=seed)
    base = None if options.base is None else Parts.load(options.base, schema)[0]
    run = Run(out, _identity(tables, schema, settings, options), options)

    population = Population.of(tables, Encoder(schema))
    vocabulary = Vocabulary.of(population.values(), settings.min_count)
    profiles = Vocabulary.of(np.hstack((population.profiles, population.contexts)), 1)
    if base is not None:
        vocabulary = vocabulary.joined(base.vocabulary)
        profiles = profiles.joined(base.profiles)
    builder = PeriodBuilder(population, vocabulary, settings.history_events)
    chosen = _chosen(population, builder, settings, options)
    learned = len(chosen) - settings.held_out_periods
    examples = [builder.buyers(at) for at in chosen]
    batches_of = [math.ceil(count / settings.batch) for count in examples]
    tried = len(chosen) + settings.epochs * sum(batches_of[:learned])
    total = tried + settings.refit * settings.epochs * sum(batches_of) + 1
    pulse = Pulse(progress, total)

    periods = _prepare(population, builder, chosen, settings, pulse)
    learner = Learner(settings, schema, vocabulary, profiles, base, pulse)
    earlier, held_out = periods[:learned], periods[learned:]
    if settings.refit:
        # Learned twice: once without the newest periods, to say how well it does on them and when
        # to stop, and then with them, because the newest weeks resemble the next one most.
        trial = run.once("trial", lambda: learner.try_out(earlier, held_out, run.stage("trial")))
        pulse.reach(tried)
        network, curve = learner.learn(periods, run.stage("final"), share=trial["share"])
    else:
        network, curve = learner.learn(earlier, run.stage("final"), held_out)
        measured, users = recall(network, held_out, profiles)
        trial = {"recall": measured, "users": users, "curve": vars(curve)}

    pairs, priors = known_by_the_end(population, builder, settings)
    parts = Parts(
        settings=settings,
        schema=schema,
        network=network,
        vocabulary=vocabulary,
        profiles=profiles,
        cooccurrence=pairs,
        priors=priors,
        ad_scales=np.ones(settings.network.joint, np.float32),
        learned=_learned(population, chosen if settings.refit else chosen[:learned], base),
    )
    parts = parts.scaled(np.concatenate([population.periods[at].items for at in chosen]))
    metrics = {
        "loss": curve.final_loss(),
        f"recall_at_{RECALL_AT}": trial["recall"],
        "held_out_users": float(trial["users"]),
        "examples": float(sum(examples)),
        "parameters": float(sum(weights.numel() for weights in network.parameters())),
        "pairs": float(len(pairs.pair_targets)),
        "seconds": time.perf_counter() - started,
    }
    report = Report(
        title=f"{KIND}, {preset}",
        curves={"trial": Curve(**trial["curve"]), "final": curve},
        metrics=metrics,
        validation="loss on the held-out periods",
        facts={"data_window": tables.window(), "options": options.to_dict()},
    )
    version = checkpoints.write(
        out,
        kind=KIND,
        schema=schema,
        config=settings.to_dict(),
        metrics=metrics,
        data_window=options.window(tables.window()),
        tensors=parts.pack(),
        report=report.files(),
    )
    run.finish()
    pulse.reach(total, metrics["loss"])
    log.info("retriever_trained", version=version, folder=str(out), **metrics)
    return metrics


def _identity(
    tables: TrainingTables, schema: Schema, settings: RetrieverSettings, options: Options
) -> dict[str, Any]:
    """Everything that decides which steps the run takes."""
    return {
        "schema": schema.hash,
        "settings": settings.to_dict(),
        "data": tables.fingerprint(),
        "torch": torch.__version__,
        **options.identity(),
    }


def _chosen(
    population: Population,
    builder: PeriodBuilder,
    settings: RetrieverSettings,
    options: Options,
) -> list[int]:
    """The ad periods to learn from and, last, those that are held out.

    Raises:
        TablesInvalid: there are too few.
    """
    since_ms = options.since_ms or 0
    chosen = [
        at
        for at, ads in enumerate(population.periods)
        if ads.start_ms >= since_ms and builder.buyers(at)
    ]
    chosen = chosen[-(settings.train_periods + settings.held_out_periods) :]
    # A checkpoint to start from can itself be measured on the only fresh period.
    needed = settings.held_out_periods + (options.base is None)
    if len(chosen) < needed:
        raise TablesInvalid(
            f"no user bought an item in a period in which it was advertised, in {needed} periods "
            f"since {since_ms} ms; there are {len(chosen)}"
        )
    return chosen


def _learned(population: Population, chosen: list[int], base: Parts | None) -> np.ndarray:
    """[P, 2] int64 start and end of what the weights are fitted to, the base's included."""
    earlier = np.zeros((0, 2), np.int64) if base is None else base.learned
    periods = [population.periods[at] for at in chosen]
    own = np.array([(ads.start_ms, ads.end_ms) for ads in periods], np.int64).reshape(-1, 2)
    return np.concatenate([earlier, own])


def _prepare(
    population: Population,
    builder: PeriodBuilder,
    chosen: list[int],
    settings: RetrieverSettings,
    pulse: Pulse,
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

"""Backtest: retrievers of several settings, learned from the same periods and asked the same.

Owns networks that live for one measurement. Promises that all of them read what training and
serving would, prepared once, and nothing of the time that they are asked about. Measures are the
caller's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from ..features import Encoder
from ..progress import Progress, Pulse, silent
from ..schema import Schema
from ..tables import TrainingTables
from ..training import unkept
from . import cooccurrence
from .learner import Learner, step_count
from .lookup import positions
from .periods import Period, PeriodBuilder
from .population import Population
from .presets import RetrieverSettings
from .tensors import PeriodTensors, UserTensors
from .vocabulary import Vocabulary

_USERS = 128


@dataclass(frozen=True)
class Trial:
    """What came of a network that was trained to be measured once.

    Attributes:
        scores: [users, A] float32 of every user for every ad that is asked about, in the order
            of the tables.
        train_s: CPU seconds of the training steps.
        parameters: learned numbers, tables included.
    """

    scores: np.ndarray
    train_s: float
    parameters: int


class Backtest:
    """Periods to learn from, and the newest one, whose ads every user is asked about."""

    def __init__(self, tables: TrainingTables, schema: Schema, settings: RetrieverSettings) -> None:
        """Prepare the periods.

        Args:
            tables: without events of the newest ad period or later.
            schema: the fields to learn from.
            settings: what all trials have in common; `train_periods` before the newest are
                learned from.
        """
        encoder = Encoder(schema)
        population = Population.of(tables, encoder)
        self._schema = schema
        self._vocabulary = Vocabulary.of(population.values(), settings.min_count)
        self._profiles = Vocabulary.of(np.hstack((population.profiles, population.contexts)), 1)
        builder = PeriodBuilder(population, self._vocabulary, settings.history_events)
        asked = len(population.periods) - 1
        self._periods: list[Period] = []
        for start in range(asked - settings.train_periods, asked, settings.block_periods):
            pairs = _pairs(population, start, settings)
            block = range(start, min(start + settings.block_periods, asked))
            self._periods += [builder.build(at, pairs) for at in block]
        pairs = _pairs(population, asked, settings)
        self._asked = builder.build(asked, pairs, every_user=True)
        newest = tables.ads["week"].to_numpy()
        ads = encoder.items_from_table(tables.ads)[newest == newest.max()]
        order = np.argsort(self._asked.items[:, 0])
        self._order = order[positions(self._asked.items[order, 0], ads[:, 0])]

    def try_out(self, settings: RetrieverSettings, progress: Progress = silent) -> Trial:
        """Learn with settings that may differ in network, loss and steps; nothing is written."""
        pulse = Pulse(progress, step_count(self._periods, settings))
        learner = Learner(settings, self._schema, self._vocabulary, self._profiles, None, pulse)
        began_s = time.process_time()
        network, _ = learner.learn(self._periods, unkept("trial"))
        train_s = time.process_time() - began_s
        ads = PeriodTensors.of(self._asked)
        scores = []
        with torch.inference_mode():
            for start in range(0, len(self._asked.examples), _USERS):
                part = [example.user for example in self._asked.examples[start : start + _USERS]]
                users = UserTensors.of(part, self._asked.values, self._profiles)
                scores.append(network(ads, users).numpy())
        return Trial(
            np.concatenate(scores)[:, self._order],
            train_s,
            sum(weights.numel() for weights in network.parameters()),
        )


def _pairs(
    population: Population, at: int, settings: RetrieverSettings
) -> cooccurrence.Cooccurrence:
    """What was bought together before a period."""
    before_ms = population.periods[at].start_ms
    return cooccurrence.fit(
        *population.met(before_ms), population.advertised(before_ms), settings.cooccurrence
    )

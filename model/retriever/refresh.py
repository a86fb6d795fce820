"""Refresh: old weights with what has become known since.

Owns the part of a retriever that is counted and not learned: priors and co-occurrences. Promises
that a retriever which has just been trained and one with older weights count alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..features import Encoder
from ..tables import TrainingTables
from . import cooccurrence
from .cooccurrence import Cooccurrence
from .parts import Parts
from .periods import PeriodBuilder
from .population import Population
from .presets import RetrieverSettings


def known_by_the_end(
    population: Population, builder: PeriodBuilder, settings: RetrieverSettings
) -> tuple[Cooccurrence, np.ndarray]:
    """Co-occurrences, and [V, N] float32 priors, as of the end of a population's data."""
    now_ms = population.end_ms()
    pairs = cooccurrence.fit(
        *population.met(now_ms), population.advertised(now_ms), settings.cooccurrence
    )
    return pairs, builder.priors(now_ms)[0]


def refreshed(parts: Parts, tables: TrainingTables) -> Parts:
    """The weights of some parts, and what is known at the end of other tables."""
    population = Population.of(tables, Encoder(parts.schema))
    builder = PeriodBuilder(population, parts.vocabulary, parts.settings.history_events)
    pairs, priors = known_by_the_end(population, builder, parts.settings)
    return replace(parts, cooccurrence=pairs, priors=priors).scaled(population.periods[-1].items)

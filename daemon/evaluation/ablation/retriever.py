"""The retriever's study: two towers, and the terms that are added to their product.

Owns the periods that it learns from. Promises scores in float32 of all items for all users, as a
search without rounding would order them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow.compute as pc

from model.progress import Progress
from model.retriever import PRESETS, Backtest, RetrieverSettings
from model.retriever.network import Terms
from model.tables import TrainingTables

from ...datasets.complete_journey import retrieval as journey
from ...training import SCHEMA
from .. import baselines
from ..cascade import PERIOD_DAYS
from ..measures import Measures, by_scores
from ..retrieval import PRESET
from .sources import identity
from .study import ByUser, Figure, Outcome

_DAY_MS: Final = 86_400_000
_PERIODS, _EPOCHS = 3, 2

# The preset's decay of towers would leave little of those systems that have little else.
_SETTINGS: Final = replace(PRESETS[PRESET], train_periods=_PERIODS, epochs=_EPOCHS, tower_decay=0.0)
_TERMS: Final[Mapping[str, tuple[Terms, str]]] = {
    "dt": (Terms(ipnn=False, taste=False, hits=False), "two towers by dot product, and a bias"),
    "dt_ipnn": (Terms(taste=False, hits=False), "the same, and IPNN"),
    "dt_ipnn_hitmatch": (Terms(taste=False), "the same, and HitMatch: all terms of the paper"),
    "headwater_retriever": (Terms(), "the same, and factors of co-occurrences: what is served"),
}


@dataclass(frozen=True)
class RetrieverStudy:
    """Terms of one retriever's score; see ``Study``."""

    name: str = "retriever"
    reference: str = "dt"

    figures = (
        Figure("recall@100/all", "Recall@100, all items", "share"),
        Figure("recall@100/novel", "Recall@100, novel items", "share"),
    )
    systems: ClassVar = {name: what for name, (_, what) in _TERMS.items()}

    @property
    def about(self) -> str:
        """See ``Study``."""
        return (
            f"Learned from the {_PERIODS} periods of {PERIOD_DAYS} days before December in "
            f"{_EPOCHS} passes, with the settings of preset `{PRESET}` but for the decay of "
            "towers; measured on December: all 8,987 items ranked for 1,955 households by scores "
            "in float32, as in [evaluation](evaluation.md)."
        )

    def identity(self, system: str) -> Mapping[str, Any]:
        """See ``Study``."""
        return {**self._unchanging, "settings": self._settings(system).to_dict()}

    def run(self, system: str, seed: int, progress: Progress) -> Outcome:
        """See ``Study``."""
        trial = self._backtest.try_out(replace(self._settings(system), seed=seed), progress)
        found = self._measures.of(by_scores(trial.scores.__getitem__))
        return Outcome(
            {
                figure.axis: ByUser(found[figure.axis], np.ones(len(found[figure.axis])))
                for figure in self.figures
            },
            trial.train_s,
            trial.parameters,
        )

    def _settings(self, system: str) -> RetrieverSettings:
        return replace(_SETTINGS, network=replace(_SETTINGS.network, terms=_TERMS[system][0]))

    @cached_property
    def _unchanging(self) -> Mapping[str, Any]:
        return {**identity("retriever"), "data": self._tables.fingerprint()}

    @cached_property
    def _tables(self) -> TrainingTables:
        """The items of the periods and of December, and what was bought before December."""
        until_ms = journey.DECEMBER_MS + PERIOD_DAYS * _DAY_MS
        tables = journey.split_tables(until_ms, PERIOD_DAYS, _PERIODS + 1)
        known = pc.less(tables.events["time_ms"], journey.DECEMBER_MS)
        return replace(tables, events=tables.events.filter(known))

    @cached_property
    def _backtest(self) -> Backtest:
        return Backtest(self._tables, SCHEMA, _SETTINGS)

    @cached_property
    def _measures(self) -> Measures:
        split = journey.split()
        past = baselines.Past(split, journey.DECEMBER_MS)
        return Measures(split.test, past.counts() > 0)


def of_terms() -> RetrieverStudy:
    """Two towers and what is added to them."""
    return RetrieverStudy()

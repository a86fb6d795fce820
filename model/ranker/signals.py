"""Derived signals: the numbers that the MoA configuration draws from time, counts and values.

Owns the R signal columns and their order. Promises that training rows and live requests get them
from the same functions, as of their own time, and that NaN means: there is none.

Of a request they need the user's newest ``max_events`` events. What they need of everybody is in
``Statistics``, which a checkpoint holds as of the end of its data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .affinity import Affinity
from .config import MoaConfig
from .crossing import cross
from .matches import HABITS, Events, Floats, HardMatcher, Ints, Prefixes, count_prefixes
from .population import PopulationTable

_POPULAR, _ANSWERED, _ANSWERED_IN, _AFFINITY = "popular.", "answered.", "answered_in.", "affinity."


def names(moa: MoaConfig) -> list[str]:
    """What each of the R columns is, in order."""
    habits = [*HABITS, *(f"count_{days:g}d" for days in moa.decay_days)]
    return [
        *(f"{history}~{item}.{habit}" for history, item in moa.fields for habit in habits),
        *_windows(moa.popular, moa.popular_days, "popularity", "price"),
        *_windows(moa.answered, moa.answered_days, "shown", "response"),
        *_of_context(moa),
        "activity.recency",
        *(f"activity.count_{days:g}d" for days in moa.activity_days),
        *(["affinity"] if moa.affinity else []),
        *(["retrieval"] if moa.retrieved else []),
    ]


def contextual(moa: MoaConfig) -> list[int]:
    """Columns that depend on the context: NaN where there is none."""
    every = names(moa)
    return [every.index(name) for name in _of_context(moa)]


def derive(
    matcher: HardMatcher,
    events: Events,
    prefixes: Prefixes,
    items: Ints,
    population: Floats,
    affinity: Floats,
    retrieval: Floats | None,
    moa: MoaConfig,
) -> tuple[Ints, Floats]:
    """Match counts and derived signals of N (prefix, candidate) rows.

    Args:
        matcher: over ``events``, with the configuration's pairs.
        events: the histories.
        prefixes: N of them.
        items: [N, F] int64 raw ids.
        population: [N, ..] float32, popularity, response, and response in the context.
        affinity: [N, 0 or 1] float32.
        retrieval: [N] float32, the retriever's scores; None where there are none.
        moa: names the windows of activity, and whether retrieval is a signal.

    Returns:
        [N, P] int64 uncapped counts, and [N, R] float32 signals in the order of ``names``.
    """
    matches = matcher.match(prefixes, items)
    activity = count_prefixes(events, prefixes, moa.activity_days)
    parts = [matches.habits, population, activity, affinity]
    if moa.retrieved:
        unknown = np.full(len(items), np.nan, np.float32)
        parts.append((unknown if retrieval is None else retrieval)[:, None])
    return matches.counts, np.concatenate(parts, 1, dtype=np.float32)


@dataclass(frozen=True)
class Statistics:
    """What a ranker knows of everybody, as of the end of its data.

    Attributes:
        popular: popularity and price of the values of ``MoaConfig.popular``.
        answered: response to those of ``MoaConfig.answered``.
        answered_in: response to the crossed ones of ``MoaConfig.answered_in``.
        affinity: what goes with what; None where the configuration has none.
    """

    popular: PopulationTable
    answered: PopulationTable
    answered_in: PopulationTable
    affinity: Affinity | None

    def population(self, items: Ints, contexts: Ints, moa: MoaConfig) -> Floats:
        """[N, ..] float32 columns of N candidates, [N, F] int64, in contexts, [N, C] int64."""
        popular, answered = columns(moa.popular, moa), columns(moa.answered, moa)
        tables = (
            self.popular.look_up(items[:, popular]),
            self.answered.look_up(items[:, answered]),
            self.answered_in.look_up(crossed(items, contexts, moa)),
        )
        return np.concatenate(tables, 1)

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The statistics for a checkpoint."""
        parts = {
            _POPULAR: self.popular.tensors(),
            _ANSWERED: self.answered.tensors(),
            _ANSWERED_IN: self.answered_in.tensors(),
        }
        if self.affinity is not None:
            parts[_AFFINITY] = self.affinity.tensors()
        return {
            part + name: array for part, named in parts.items() for name, array in named.items()
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, npt.NDArray[np.generic]], moa: MoaConfig
    ) -> Statistics:
        """The inverse of ``tensors``. Raises KeyError or TypeError where a part is missing."""
        return cls(
            PopulationTable.from_tensors(_part(tensors, _POPULAR), len(moa.popular)),
            PopulationTable.from_tensors(_part(tensors, _ANSWERED), len(moa.answered)),
            PopulationTable.from_tensors(_part(tensors, _ANSWERED_IN), len(moa.answered_in)),
            Affinity.from_tensors(_part(tensors, _AFFINITY)) if moa.affinity else None,
        )


def columns(fields: Sequence[str], moa: MoaConfig) -> list[int]:
    """Where some item fields stand among a candidate's."""
    return [moa.item.index(name) for name in fields]


def crossed(items: Ints, contexts: Ints, moa: MoaConfig) -> Ints:
    """[N, pairs of ``answered_in``] int64 ids of N candidates in their contexts."""
    ids = np.zeros((len(items), len(moa.answered_in)), np.int64)
    for column, (context, item) in enumerate(moa.answered_in):
        ids[:, column] = cross(
            contexts[:, moa.context.index(context)], items[:, moa.item.index(item)]
        )
    return ids


def _of_context(moa: MoaConfig) -> list[str]:
    pairs = [f"{context}*{item}" for context, item in moa.answered_in]
    return _windows(pairs, moa.answered_in_days, "shown", "response")


def _windows(fields: Sequence[str], days: Sequence[float], *kinds: str) -> list[str]:
    return [f"{field}.{kind}_{d:g}d" for field in fields for d in days for kind in kinds]


def _part(
    tensors: Mapping[str, npt.NDArray[np.generic]], prefix: str
) -> dict[str, npt.NDArray[np.generic]]:
    return {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }

"""Cascade: a ranker orders what the retriever found of all products.

Owns how the second stage learns on the retrieval split, and LightGBM beside it on the same rows.
Promises that it learns only from candidates of periods that their retriever's weights were not
fitted to, that November alone calibrates it, and that nothing of the test part is learned from.

A retriever scores the purchases that it was fitted to better than any that it will serve. A ranker
that learns from such scores trusts them too much. Hence two more retrievers, each of which learns
from every other period and finds the candidates of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.features import Encoder
from model.ranker import Ranker, VisitFeatures, backtest, configure
from model.ranker.config import AffinityConfig
from model.ranker.presets import Setup
from model.ranker.sampling import thin_negatives
from model.retriever import Retriever
from model.tables import TrainingTables

from ..datasets.complete_journey import retrieval as journey
from ..datasets.complete_journey.retrieval import Split
from ..training import SCHEMA
from . import trees
from .candidates import Candidates
from .measures import LENGTH, Ints
from .pipeline import Pipeline

PRESET: Final = "small"
PERIOD_DAYS: Final = 30
# Items of each of a household's two lists: the first of all items, and of those new to it.
DEPTH: Final = 300
# Candidates that were not bought, for each household and day that is learned from: fewer than two
# for each that was.
PASSED: Final = 30
NEGATIVES: Final = 2
# Of the newest day every so many households judge, with all of their candidates: a calibration and
# a share of the retriever's score that are fitted to some of them are right for no answer.
JUDGING: Final = 6
_DAY_MS: Final = 86_400_000
_ENGAGE: Final = 0
_PERIOD_MS: Final = PERIOD_DAYS * _DAY_MS

Floats = NDArray[np.floating]


class StackingLeak(ValueError):
    """A ranker would learn from scores of purchases that the retriever has learned from."""


def every_other(tables: TrainingTables, first: int) -> TrainingTables:
    """Tables with the ads of every other period, and of the newest, which is held out."""
    week = tables.ads["week"].to_numpy()
    kept = (week % 2 == first) | (week == week.max())
    return replace(tables, ads=tables.ads.filter(pa.array(kept)))


def lesson(retrievers: Sequence[Retriever], split: Split, tables: TrainingTables) -> TrainingTables:
    """What the ranker learns from: a household's candidates of a period are one visit.

    Args:
        retrievers: of which one at least was not fitted to each period, the one that will serve
            first: it finds the candidates of those that it was not fitted to.
        split: whose households and items.
        tables: whose periods of ads these are; the newest judges.

    Raises:
        StackingLeak: all were fitted to a period.
    """
    found = []
    for now_ms in np.unique(tables.ads["start_ms"].to_numpy()).tolist():
        ignorant = [
            retriever
            for retriever in retrievers
            if not retriever.has_learned_from(now_ms, now_ms + _PERIOD_MS)
        ]
        # Without any, the first is refused.
        retriever = (ignorant or retrievers)[0]
        found.append(candidates(retriever, split, now_ms, now_ms + _PERIOD_MS))
    return with_visits(split, thinned(found))


def thinned(days: Sequence[Candidates]) -> Candidates:
    """A sample of all days but the last, and of that all candidates of some households."""
    *older, newest = days
    sampled = [day.sampled(PASSED, seed=0) for day in older]
    return Candidates.together([*sampled, newest.chosen(newest.user % JUDGING == 0)])


def candidates(retriever: Retriever, split: Split, now_ms: int, end_ms: int) -> Candidates:
    """What a retriever finds on a day for a period, knowing of everybody what was known then.

    Raises:
        StackingLeak: it was fitted to the period.
    """
    if retriever.has_learned_from(now_ms, end_ms):
        raise StackingLeak(
            f"{retriever.version} was fitted to purchases of {now_ms} to {end_ms} ms, and its "
            "scores of these say more than any that it will serve: train one without this period"
        )
    tables = journey.split_tables(now_ms, PERIOD_DAYS, periods=1)
    pipeline = Pipeline(retriever.refreshed(tables), tables, now_ms)
    bought, seen = split.bought(now_ms, end_ms), split.seen_before(now_ms)
    return Candidates.of_day(pipeline, split, bought, seen, DEPTH)


def with_visits(split: Split, found: Candidates) -> TrainingTables:
    """The purchases before the test part and the candidates as visits."""
    tables = journey.split_tables(journey.DECEMBER_MS, PERIOD_DAYS, periods=1)
    return replace(tables, visits=found.visits(split, tables.ads.select(SCHEMA.item_fields)))


def setup(tables: TrainingTables, seed: int) -> Setup:
    """The preset, for this question.

    Candidates are not impressions, so that no response to them is known when others are found.
    What goes with what is known as of each day, of all items, as the retriever knows it.
    """
    carried = SCHEMA.carried(tables.events.column_names)
    config, training = configure(PRESET, SCHEMA, carried, retrieved=True)
    affinity = AffinityConfig(refit_days=float(PERIOD_DAYS), max_items=9_000)
    moa = replace(config.moa, answered=(), answered_in=(), max_events=4_096, affinity=affinity)
    return replace(config, moa=moa), replace(
        training,
        epochs=1,
        # One pass, whose last weights are its best; November then says what they are worth.
        validations=0,
        # Keeps all that is learned from; the last pass, over the newest period, has as many.
        negatives=NEGATIVES,
        # Of the newest period, whose candidates were all found on its first day.
        held_out_days=1.0,
        context_dropout=0.0,
        seed=seed,
    )


@dataclass(frozen=True)
class Reordered:
    """The system that orders candidates by scores of its own.

    Attributes:
        found: candidates of one day, by household.
        scores: [N] of them.
    """

    found: Candidates
    scores: Floats

    def first(self, user: int, hidden: Ints) -> Ints:
        """A household's first items, without some."""
        low, high = np.searchsorted(self.found.user, (user, user + 1))
        shown = low + np.flatnonzero(~np.isin(self.found.item[low:high], hidden))
        order = np.argsort(-self.scores[shown], kind="stable")
        first: Ints = self.found.item[shown[order[:LENGTH]]]
        return first


def by_ranker(ranker: Ranker, split: Split, found: Candidates) -> Reordered:
    """Candidates of one day in the ranker's order."""
    visits = VisitFeatures.of(with_visits(split, found), Encoder(SCHEMA), ranker.config)
    every = np.ones(len(found), np.bool_)
    return Reordered(found, backtest(ranker, visits, every).probabilities[:, _ENGAGE])


def by_trees(tables: TrainingTables, split: Split, found: Candidates) -> Reordered | None:
    """The same in LightGBM's, which learns from what the ranker reads beside embeddings."""
    config, _ = setup(tables, seed=0)
    encoder = Encoder(SCHEMA)
    visits = VisitFeatures.of(tables, encoder, config)
    held_out, bought = visits.time_ms == visits.time_ms.max(), visits.labels[:, _ENGAGE] > 0
    judged = thin_negatives(bought, held_out, NEGATIVES, seed=0)
    names, x = visits.matrix()
    logits_of = trees.grow(names, x, visits.labels[:, _ENGAGE], ~held_out, judged)
    if logits_of is None:
        return None
    _, x = VisitFeatures.of(with_visits(split, found), encoder, config).matrix()
    return Reordered(found, logits_of(x))

"""Retrieval: all 8,987 items ranked for every household, against what it then bought.

Owns which systems are measured on which part of the split, and the rows that say so. Promises that
nothing is tuned on the test part: the blend's weights are found on November.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import CheckpointError, read_manifest
from model.retriever import PRESETS, Retriever, train_retriever
from model.tables import TrainingTables

from ..datasets.complete_journey import retrieval as journey
from ..progress import training_bar
from ..training import SCHEMA
from . import Run, baselines
from .bootstrap import estimate, gain
from .measures import LENGTH, Measures, by_scores
from .pipeline import Pipeline

SYSTEM: Final = "headwater_retriever"
PRESET: Final = "small"
PERIOD_DAYS: Final = 30
# The blend is tuned on every third user.
_TUNED_USERS: Final = 3

ByAxis = Mapping[str, NDArray[np.float64]]


def measure(run: Run) -> None:
    """Measure the retriever and its baselines on December."""
    split, now_ms = journey.split(), journey.DECEMBER_MS
    past = baselines.Past(split, now_ms)
    measures = Measures(split.test, past.counts() > 0)
    with run.console.status("baselines of retrieval"):
        theirs = {
            system: measures.of(by_scores(scores.__getitem__))
            for system, scores in _baselines(split, past).items()
        }
    for system, values in theirs.items():
        _add(run, system, [values])

    tables = _tables()
    served: list[ByAxis] = []
    unrounded: list[ByAxis] = []
    for seed in range(run.seeds):
        pipeline = Pipeline(_retriever(run, seed, tables), tables, now_ms)
        with run.console.status(f"retriever, seed {seed}"):
            served.append(measures.of(pipeline.search))
            unrounded.append(measures.of(by_scores(pipeline.exact)))
    _add(run, SYSTEM, served)
    _add(run, f"{SYSTEM}_float", unrounded)
    for system, values in theirs.items():
        for axis, of_users in values.items():
            found = gain(np.stack([seed[axis] for seed in served]), of_users)
            run.rows.add(
                f"{axis}/gain", found.value, "share", system=system, spread=found.spread, n=found.n
            )
    trained_s = read_manifest(_folder(run, 0))["metrics"]["seconds"]
    run.rows.add("train_s/retriever", trained_s, "s", system=SYSTEM)


def _baselines(split: journey.Split, past: baselines.Past) -> dict[str, baselines.Scores]:
    """All of them; the blend has other weights for novel items, and both are told."""
    blend = baselines.Blend(past)
    return {
        **baselines.scores(past),
        "blend": blend.scores(_blend(split, "all")),
        "blend_novel": blend.scores(_blend(split, "novel")),
    }


def _tables() -> TrainingTables:
    """What is known before December, in periods of which November is the newest."""
    settings = PRESETS[PRESET]
    periods = settings.train_periods + settings.held_out_periods
    return journey.split_tables(journey.DECEMBER_MS, PERIOD_DAYS, periods)


def _retriever(run: Run, seed: int, tables: TrainingTables) -> Retriever:
    """The checkpoint of a seed, trained if there is none that can be used.

    Its weights are learned from purchases before November, which is held out; its statistics of
    the population are as of December.
    """
    folder = _folder(run, seed)
    try:
        found = Retriever.load(folder, SCHEMA)
        manifest = read_manifest(folder)
        if manifest["data_window"] == tables.window() and manifest["config"]["seed"] == seed:
            return found
    except (CheckpointError, KeyError):
        pass
    with training_bar(run.console, f"seed {seed}") as progress:
        train_retriever(tables, SCHEMA, PRESET, folder, progress, seed=seed)
    return Retriever.load(folder, SCHEMA)


def _folder(run: Run, seed: int) -> Path:
    return run.checkpoints / (f"retriever-{PRESET}" + (f"-{seed}" if seed else ""))


def _blend(split: journey.Split, kind: str) -> list[float]:
    """The blend's weights, best for Recall@LENGTH of a third of the users in November."""
    past = baselines.Past(split, journey.NOVEMBER_MS)
    seen = past.counts() > 0
    truth = split.validate
    some = (truth.user % _TUNED_USERS == 0) & (truth.novel | (kind == "all"))
    bought = np.zeros(seen.shape, np.bool_)
    bought[truth.user[some], truth.item[some]] = True
    users = np.flatnonzero(bought.any(axis=1))
    bought, hidden = bought[users], seen[users] & (kind == "novel")

    def worth(scores: baselines.Scores) -> float:
        shown = np.where(hidden, -np.inf, scores[users])
        first = np.argpartition(-shown, LENGTH, axis=1)[:, :LENGTH]
        hits = np.take_along_axis(bought, first, axis=1).sum(axis=1)
        return float((hits / bought.sum(axis=1)).mean())

    return baselines.Blend(past).tuned(worth)


def _add(run: Run, system: str, seeds: Sequence[ByAxis]) -> None:
    """Rows of a system, the mean of its seeds."""
    for axis in seeds[0]:
        found = estimate(np.stack([seed[axis] for seed in seeds]))
        run.rows.add(axis, found.value, "share", system=system, spread=found.spread, n=found.n)

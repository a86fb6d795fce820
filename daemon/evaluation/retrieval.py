"""Retrieval: all 8,987 items ranked for every household, against what it then bought.

Owns which systems are measured on which part of the split, and the rows that say so: the retriever
alone, the ranker behind it, and baselines. Promises that nothing is tuned on the test part: the
blend's weights are found on November.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import CheckpointError, differences, read_manifest
from model.ranker import Ranker, train_ranker
from model.retriever import PRESETS, Retriever, train_retriever
from model.tables import TrainingTables

from ..datasets.complete_journey import retrieval as journey
from ..progress import training_bar
from ..training import SCHEMA, Kind, load
from . import Run, baselines, cascade
from .bootstrap import estimate, gain
from .candidates import Candidates
from .measures import LENGTH, Measures, by_scores
from .pipeline import Pipeline

RETRIEVER: Final = "headwater_retriever"
CASCADE: Final = "headwater"
PRESET: Final = "small"
# The blend is tuned on every third user.
_TUNED_USERS: Final = 3

ByAxis = Mapping[str, NDArray[np.float64]]


def measure(run: Run) -> None:
    """Measure the retriever, the ranker behind it and their baselines on December."""
    split, now_ms = journey.split(), journey.DECEMBER_MS
    past = baselines.Past(split, now_ms)
    seen = split.seen_before(now_ms)
    measures = Measures(split.test, seen)
    with run.console.status("baselines of retrieval"):
        theirs = {
            system: measures.of(by_scores(scores.__getitem__))
            for system, scores in _baselines(split, past).items()
        }

    tables = _tables(now_ms)
    retrievers = [
        _retriever(run, f"retriever-{PRESET}{_suffix(seed)}", tables, seed)
        for seed in range(run.seeds)
    ]
    with run.console.status("candidates that the ranker learns from"):
        others = [
            _retriever(run, f"retriever-{PRESET}-{name}", cascade.every_other(tables, first))
            for first, name in enumerate(("even", "odd"))
        ]
        lesson = cascade.lesson([retrievers[0], *others], split, tables)
    served: list[ByAxis] = []
    unrounded: list[ByAxis] = []
    ranked: list[ByAxis] = []
    for seed, retriever in enumerate(retrievers):
        ranker = _ranker(run, f"ranker-{PRESET}-products{_suffix(seed)}", lesson, seed)
        pipeline = Pipeline(retriever, tables, now_ms)
        with run.console.status(f"retriever and ranker, seed {seed}"):
            served.append(measures.of(pipeline.search))
            unrounded.append(measures.of(by_scores(pipeline.exact)))
            found = Candidates.of_day(pipeline, split, split.test, seen, cascade.DEPTH)
            ranked.append(measures.of(cascade.by_ranker(ranker, split, found).first))
            # Both learners order the candidates of the first seed's retriever.
            if not seed:
                trees = cascade.by_trees(lesson, split, found)
    if trees is None:
        run.console.print("lightgbm is not installed: install Headwater's extra `bench`")
    else:
        theirs["lightgbm"] = measures.of(trees.first)

    seconds = _trained_s(run, f"retriever-{PRESET}", "seconds")
    run.rows.add("train_s/retriever", seconds, "s", system=RETRIEVER)
    seconds = _trained_s(run, f"ranker-{PRESET}-products", "train_s")
    run.rows.add("train_s/ranker/products", seconds, "s", system=CASCADE)
    for system, values in theirs.items():
        _add(run, system, [values])
    _add(run, RETRIEVER, served)
    _add(run, f"{RETRIEVER}_float", unrounded)
    _add(run, CASCADE, ranked)
    for system, values in theirs.items():
        _add_gains(run, RETRIEVER, served, system, [values])
        _add_gains(run, CASCADE, ranked, system, [values])
    _add_gains(run, CASCADE, ranked, RETRIEVER, served)


def _baselines(split: journey.Split, past: baselines.Past) -> dict[str, baselines.Scores]:
    """All of them; the blend has other weights for novel items, and both are told."""
    blend = baselines.Blend(past)
    return {
        **baselines.scores(past),
        "blend": blend.scores(_blend(split, "all")),
        "blend_novel": blend.scores(_blend(split, "novel")),
    }


def _tables(until_ms: int) -> TrainingTables:
    """What is known at a moment, in periods of which the newest is held out."""
    settings = PRESETS[PRESET]
    periods = settings.train_periods + settings.held_out_periods
    return journey.split_tables(until_ms, cascade.PERIOD_DAYS, periods)


def _suffix(seed: int) -> str:
    return f"-{seed}" if seed else ""


def _retriever(run: Run, name: str, tables: TrainingTables, seed: int = 0) -> Retriever:
    """A checkpoint, trained if there is none that can be used.

    Its weights are learned from purchases before the newest period, which is held out; its
    statistics of the population are as of the end of the tables.
    """
    folder = run.checkpoints / name
    settings = replace(PRESETS[PRESET], seed=seed).to_dict()
    if not _usable(Kind.RETRIEVER, folder, tables, settings):
        with training_bar(run.console, name) as progress:
            train_retriever(tables, SCHEMA, PRESET, folder, progress, seed=seed)
    return Retriever.load(folder, SCHEMA)


def _ranker(run: Run, name: str, lesson: TrainingTables, seed: int) -> Ranker:
    """The checkpoint of a seed, trained if there is none that can be used."""
    folder = run.checkpoints / name
    config, training = cascade.setup(lesson, seed)
    settings = {"model": config.to_dict(), "training": asdict(training)}
    if not _usable(Kind.RANKER, folder, lesson, settings):
        with training_bar(run.console, name) as progress:
            train_ranker(lesson, SCHEMA, (config, training), folder, progress)
    return Ranker.load(folder, SCHEMA)


def _usable(kind: Kind, folder: Path, tables: TrainingTables, settings: Mapping[str, Any]) -> bool:
    """Whether the folder has a checkpoint of these settings that has learned from these days."""
    try:
        load(kind, folder, SCHEMA)
        manifest = read_manifest(folder)
    except CheckpointError:
        return False
    days = manifest["data_window"].items() >= tables.window().items()
    return bool(days and not differences(manifest["config"], settings))


def _trained_s(run: Run, name: str, metric: str) -> float:
    seconds: float = read_manifest(run.checkpoints / name)["metrics"][metric]
    return seconds


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
        run.rows.add_mean(axis, found, "share", system=system)


def _add_gains(
    run: Run, ours: str, of_ours: Sequence[ByAxis], theirs: str, of_theirs: Sequence[ByAxis]
) -> None:
    """Rows of one system less another, user by user."""
    for axis in of_ours[0]:
        found = gain(*(np.stack([seed[axis] for seed in of]) for of in (of_ours, of_theirs)))
        run.rows.add_mean(f"{axis}/less_{theirs}", found, "share", system=ours)

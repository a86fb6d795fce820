"""Training the two models, from the packaged data set or from somebody's own.

Owns which fields and which rows a run learns from. How a model learns is `model`'s; where the rows
come from is the data set readers'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from model import ranker, retriever
from model.checkpoints import CheckpointError, read_manifest
from model.progress import Progress
from model.ranker import Ranker, train_ranker
from model.retriever import Retriever, train_retriever
from model.schema import Schema
from model.tables import TablesInvalid, TrainingTables
from model.training import DEFAULTS, Options, TrainingDiverged
from stream.settings import Kafka

from .datasets import complete_journey as journey
from .datasets import mapping, parquet, topics
from .failure import Failed
from .settings import ConfigurationError

SCHEMA = journey.SCHEMA


class Kind(StrEnum):
    """The models that can be trained."""

    RETRIEVER = "retriever"
    RANKER = "ranker"


_MODELS: dict[Kind, type[Retriever] | type[Ranker]] = {
    Kind.RETRIEVER: Retriever,
    Kind.RANKER: Ranker,
}


@dataclass(frozen=True)
class Lesson:
    """What a run learns from: fields and rows."""

    schema: Schema
    tables: TrainingTables


def packaged(until_week: int) -> Lesson:
    """What was known at the start of a week of The Complete Journey."""
    return Lesson(SCHEMA, journey.training_tables(until_week))


def mapped(path: Path, until_ms: int | None = None, kafka: Kafka | None = None) -> Lesson:
    """What the data set of a column map knew before a moment, by default all of it.

    Args:
        path: of the map.
        until_ms: the moment.
        kafka: whose topics are read where the map names no files.

    Raises:
        ConfigurationError: the map cannot be used.
        Failed: the data are not as it says.
        StreamError: Kafka cannot be read.
    """
    data = mapping.load(path)
    if data.files is None and kafka is not None:
        tables = asyncio.run(topics.training_tables(data, kafka, until_ms))
    else:
        tables = parquet.training_tables(data, until_ms)
    return Lesson(data.fields, tables)


def load(kind: Kind, folder: Path, schema: Schema | None = None) -> Retriever | Ranker:
    """The model of a checkpoint, as a worker would serve it.

    Raises:
        CheckpointError: it cannot be served, or is of another schema.
    """
    return _MODELS[kind].load(folder, schema)


def usable(kind: Kind, folder: Path, until_week: int) -> bool:
    """Whether the folder has a checkpoint that this version can serve, of the data set's schema.

    And one that has learned from the weeks before `until_week` to their end, and from no later.
    """
    try:
        load(kind, folder, SCHEMA)
        last_ms = read_manifest(folder)["data_window"]["last_ms"]
    except (CheckpointError, KeyError):
        return False
    return journey.week_of(last_ms) == until_week - 1


def train(
    kind: Kind,
    lesson: Lesson,
    preset: str,
    folder: Path,
    progress: Progress,
    options: Options = DEFAULTS,
) -> Mapping[str, float]:
    """Train a model and write its checkpoint.

    Args:
        kind: which of the two.
        lesson: what it may learn from.
        preset: one of those that the model has.
        folder: the checkpoint's, replaced if it exists.
        progress: told after every step.
        options: where to begin, and whether to go on with a run that was killed.

    Returns:
        What training measured on its own held-out part.

    Raises:
        ConfigurationError: the model has no such preset, or the checkpoint to start from cannot be
            used.
        Failed: there is too little to learn from, or the loss became no number.
    """
    try:
        data = lesson.tables, lesson.schema
        if kind is Kind.RETRIEVER:
            named = _preset(get_args(retriever.Preset), preset)
            return train_retriever(*data, named, folder, progress, options)
        return train_ranker(
            *data, _preset(get_args(ranker.Preset), preset), folder, progress, options
        )
    except (TablesInvalid, TrainingDiverged) as error:
        raise Failed(str(error)) from error
    except CheckpointError as error:
        raise ConfigurationError(str(error)) from error


def _preset(there: tuple[Any, ...], name: str) -> Any:
    """The preset of that name, among those that a model has."""
    if name not in there:
        raise ConfigurationError(f"preset {name}: this model has {', '.join(there)}")
    return name

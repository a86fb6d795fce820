"""Training the two models from the packaged data set.

Owns which schema the data set has, which weeks are learned from, and the names of the checkpoints.
How a model learns is `model`'s; where the rows come from is the data set reader's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from model.checkpoints import CheckpointError, read_manifest
from model.progress import Progress
from model.ranker import Ranker, train_ranker
from model.retriever import Preset, Retriever, train_retriever
from model.schema import Schema
from model.tables import TrainingTables

from .datasets import complete_journey as journey

SCHEMA = Schema(
    item_fields=journey.ITEM_FIELDS,
    profile_fields=journey.PROFILE_FIELDS,
    context_fields=journey.CONTEXT_FIELDS,
    actions=(journey.ACTION,),
)


class Kind(StrEnum):
    """The models that can be trained."""

    RETRIEVER = "retriever"
    RANKER = "ranker"


_MODELS: dict[Kind, type[Retriever] | type[Ranker]] = {
    Kind.RETRIEVER: Retriever,
    Kind.RANKER: Ranker,
}
_TRAINERS = {Kind.RETRIEVER: train_retriever, Kind.RANKER: train_ranker}


def tables(until_week: int) -> TrainingTables:
    """What was known at the start of a week."""
    return journey.training_tables(until_week)


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
    kind: Kind, data: TrainingTables, preset: Preset, folder: Path, progress: Progress
) -> Mapping[str, float]:
    """Train a model and write its checkpoint.

    Args:
        kind: which of the two.
        data: what it may learn from.
        preset: "tiny" or "demo".
        folder: the checkpoint's, replaced if it exists.
        progress: told after every step.

    Returns:
        What training measured on its own held-out part.
    """
    return _TRAINERS[kind](data, SCHEMA, preset, folder, progress)

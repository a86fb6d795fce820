"""A small world: users of two tastes, items of four kinds, a few weeks of ads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.retriever import Retriever, train_retriever
from model.schema import Schema
from model.tables import TrainingTables

WEEK_MS = 7 * 86_400_000
USERS, ITEMS, KINDS, WEEKS = 48, 40, 4, 8

SCHEMA = Schema(("product", "kind", "slot"), ("age",), ("store",), ("buy",))


def generate(seed: int = 0) -> TrainingTables:
    """Each user buys from two of the four kinds, and again what he bought before."""
    draw = np.random.default_rng(seed)
    events: list[tuple[int, int, str, str]] = []
    for user in range(USERS):
        kinds = (0, 1) if user % 2 else (2, 3)
        liked = [item for item in range(ITEMS) if item % KINDS in kinds]
        habits = draw.choice(liked, 4, replace=False)
        for week in range(WEEKS):
            bought = [*draw.choice(habits, 2), *draw.choice(liked, 2)]
            for item in bought:
                time = week * WEEK_MS + int(draw.integers(WEEK_MS))
                events.append((user, time, f"p{item}", f"k{item % KINDS}"))
    shown = [(week, item) for week in range(WEEKS) for item in draw.choice(ITEMS, 24, False)]
    empty = pa.array([], pa.string())
    return TrainingTables(
        events=pa.table(
            {
                "user_id": pa.array([event[0] for event in events], pa.int64()),
                "time_ms": pa.array([event[1] for event in events], pa.int64()),
                "action": ["buy"] * len(events),
                "value": draw.uniform(1, 9, len(events)),
                "product": [event[2] for event in events],
                "kind": [event[3] for event in events],
                "store": [f"s{event[0] % 3}" for event in events],
            }
        ),
        users=pa.table(
            {
                "user_id": pa.array(range(USERS), pa.int64()),
                "age": [None if user % 5 == 0 else f"a{user % 3}" for user in range(USERS)],
            }
        ),
        ads=pa.table(
            {
                "ad_id": pa.array([item * 10 + 1 for _, item in shown], pa.int64()),
                "week": pa.array([week for week, _ in shown], pa.int32()),
                "start_ms": pa.array([week * WEEK_MS for week, _ in shown], pa.int64()),
                "end_ms": pa.array([(week + 1) * WEEK_MS for week, _ in shown], pa.int64()),
                "product": [f"p{item}" for _, item in shown],
                "kind": [f"k{item % KINDS}" for _, item in shown],
                "slot": ["D" if item % 2 else "F" for _, item in shown],
            }
        ),
        visits=pa.table(
            {
                "user_id": pa.array([], pa.int64()),
                "time_ms": pa.array([], pa.int64()),
                "visit_id": pa.array([], pa.int64()),
                "ad_id": pa.array([], pa.int64()),
                "product": empty,
                "kind": empty,
                "slot": empty,
                "engage": pa.array([], pa.int8()),
                "consume": pa.array([], pa.int8()),
            }
        ),
    )


@pytest.fixture(scope="session")
def schema() -> Schema:
    return SCHEMA


@pytest.fixture(scope="session")
def world() -> TrainingTables:
    return generate()


@pytest.fixture(scope="session")
def folder(world: TrainingTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint of the world."""
    folder = tmp_path_factory.mktemp("retriever") / "tiny"
    train_retriever(world, SCHEMA, "tiny", folder)
    return folder


@pytest.fixture(scope="session")
def retriever(folder: Path) -> Retriever:
    return Retriever.load(folder)

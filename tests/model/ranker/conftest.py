"""A small world that a ranker can learn, and random inputs for the laws of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.ranker.config import AffinityConfig, HstuConfig, MatchPair, MoaConfig, RankerConfig
from model.ranker.inputs import Inputs
from model.ranker.signals import names
from model.ranker.train import train_ranker
from model.schema import Schema
from model.tables import TrainingTables

SCHEMA = Schema(("product", "type", "slot"), ("age", "income"), ("store",), ("buy", "view"))
HISTORY = ("product", "type")
ACTION_IDS = 3
WEEK_MS = 7 * 86_400_000
USERS, PRODUCTS, WEEKS = 40, 30, 10


@pytest.fixture(scope="session")
def schema() -> Schema:
    return SCHEMA


@pytest.fixture
def config() -> RankerConfig:
    """Every part present, sizes that make a full forward cost a millisecond."""
    return RankerConfig(
        MoaConfig(
            profile=SCHEMA.profile_fields,
            context=SCHEMA.context_fields,
            history=HISTORY,
            item=SCHEMA.item_fields,
            ro_query=("age", "store"),
            nro_query=("product", "slot"),
            pairs=(
                MatchPair("product", "product"),
                MatchPair("product", "product", 7.0),
                MatchPair("type", "type"),
            ),
            popular=("product",),
            answered=("type", "slot"),
            answered_in=(("store", "type"),),
            affinity=AffinityConfig(min_users=2),
            table_rows=257,
            field_width=4,
            width=8,
            match_rows=3,
            match_width=3,
        ),
        HstuConfig(
            layers=2, heads=2, query_width=3, value_width=5, window=4, normaliser=4.0, dropout=0.1
        ),
        seeds=2,
        tower_width=6,
        overarch_width=12,
    )


@dataclass(frozen=True)
class Sizes:
    """Of random inputs: histories, their events, visits, candidates per visit."""

    histories: int = 3
    events: int = 21
    visits: int = 5
    candidates: int = 6


@pytest.fixture
def draw_inputs() -> Callable[..., Inputs]:
    def draw(config: RankerConfig, sizes: Sizes = Sizes(), seed: int = 0) -> Inputs:
        """Random but legal inputs in float64; some ids are missing, some prefixes are empty."""
        random = torch.Generator().manual_seed(seed)

        def integers(high: int, *shape: int) -> torch.Tensor:
            return torch.randint(0, high, shape, generator=random)

        moa = config.moa
        time_s = integers(3_000_000, sizes.histories, sizes.events).double().sort(1).values
        visits, candidates = sizes.visits, sizes.candidates
        prefixes = integers(sizes.events + 1, visits)
        prefixes[0] = 0
        return Inputs(
            history=integers(50, sizes.histories, sizes.events, len(moa.history)),
            actions=integers(ACTION_IDS, sizes.histories, sizes.events),
            values=torch.randn(sizes.histories, sizes.events, generator=random).double(),
            time_s=time_s,
            rows=integers(sizes.histories, visits),
            prefixes=prefixes,
            now_s=torch.full((visits,), 3_000_000.0, dtype=torch.float64),
            profile=integers(50, visits, len(moa.profile)),
            context=integers(50, visits, len(moa.context)),
            items=integers(50, visits, candidates, len(moa.item)),
            counts=integers(6, visits, candidates, len(moa.pairs)),
            signals=_holed(integers(40, visits, candidates, len(names(moa))).double()),
        )

    return draw


def _holed(signals: torch.Tensor) -> torch.Tensor:
    """Some signals do not exist."""
    return signals.masked_fill(signals % 7 == 0, torch.nan)


@pytest.fixture(scope="session")
def world() -> TrainingTables:
    """Users who buy their three favourite products again and again, and little else.

    A visit a week shows all favourites that were bought and ten other products.
    """
    random = np.random.default_rng(7)
    events: list[tuple[int, int, str, float, int]] = []
    visits: list[tuple[int, int, int, int, int, int]] = []
    for user in range(1, USERS + 1):
        favourites = random.choice(PRODUCTS, 3, replace=False)
        for week in range(WEEKS):
            bought = favourites[random.random(3) < 0.7]
            other = random.choice(np.setdiff1d(np.arange(PRODUCTS), favourites), 10, replace=False)
            visit_id = len(visits)
            for product in np.concatenate([bought, other]).tolist():
                engage = int(product in bought)
                consume = int(engage and product % 3 == 0)
                visits.append((user, week * WEEK_MS, visit_id, product, engage, consume))
            extra = random.choice(PRODUCTS, 1)
            for product in np.concatenate([bought, extra]).tolist():
                at = week * WEEK_MS + int(random.integers(WEEK_MS))
                events.append((user, at, "buy", float(product % 5), product))
    events.sort(key=lambda event: event[1])
    bought_at = pa.table(
        {
            "user_id": pa.array([event[0] for event in events], pa.int64()),
            "time_ms": pa.array([event[1] for event in events], pa.int64()),
            "action": [event[2] for event in events],
            "value": [event[3] for event in events],
            **_items([event[4] for event in events]),
        }
    )
    products = [visit[3] for visit in visits]
    shown = pa.table(
        {
            "user_id": pa.array([visit[0] for visit in visits], pa.int64()),
            "time_ms": pa.array([visit[1] for visit in visits], pa.int64()),
            "visit_id": pa.array([visit[2] for visit in visits], pa.int64()),
            "ad_id": pa.array(products, pa.int64()),
            **_items(products),
            "slot": ["DF"[product % 2] for product in products],
            "store": [str(visit[0] % 4) for visit in visits],
            "engage": pa.array([visit[4] for visit in visits], pa.int8()),
            "consume": pa.array([visit[5] for visit in visits], pa.int8()),
        }
    )
    # Half the users have no profile row: an unknown user must be usable.
    known = range(1, USERS + 1, 2)
    users = pa.table(
        {
            "user_id": pa.array(known, pa.int64()),
            "age": [str(user % 3) for user in known],
            "income": pa.array([None for _ in known], pa.string()),
        }
    )
    ads = pa.table(
        {
            "ad_id": pa.array(range(PRODUCTS), pa.int64()),
            "week": pa.array([0] * PRODUCTS, pa.int32()),
            "start_ms": pa.array([0] * PRODUCTS, pa.int64()),
            "end_ms": pa.array([WEEKS * WEEK_MS] * PRODUCTS, pa.int64()),
            **_items(range(PRODUCTS)),
            "slot": ["D"] * PRODUCTS,
        }
    )
    return TrainingTables(bought_at, users, ads, shown)


def _items(products: list[int] | range) -> dict[str, list[str]]:
    return {
        "product": [f"p{product}" for product in products],
        "type": [f"t{product % 6}" for product in products],
    }


@pytest.fixture(scope="session")
def trained(
    world: TrainingTables, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """The folder and metrics of a tiny ranker that has learned the world."""
    folder = tmp_path_factory.mktemp("ranker") / "tiny"
    return folder, train_ranker(world, SCHEMA, "tiny", folder)

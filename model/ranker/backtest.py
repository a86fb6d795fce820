"""Backtest: visits of the past scored by a trained ranker, and their features for other learners.

Owns the offline reading of a checkpoint. Promises the numbers that a live request would have got
at each visit's time. Measures and baselines are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..features import Encoder
from ..tables import TrainingTables
from .batches import Batches
from .config import RankerConfig
from .examples import Examples
from .matches import Floats, Ints
from .ranker import Ranker
from .signals import names
from .train import predict

# Groups of a batch; more of them take more memory and no less time.
_GROUPS = 128

Mask = npt.NDArray[np.bool_]


class VisitFeatures:
    """Visits with everything that a ranker of one configuration reads of them.

    Attributes:
        users: [N] int64, a number for each user.
        time_ms: [N] int64.
        labels: [N, tasks] float32.
    """

    def __init__(self, examples: Examples, config: RankerConfig) -> None:
        """Wrap examples; see ``of``."""
        self._examples = examples
        self._config = config
        self.users: Ints = examples.rows.prefixes.owners
        self.time_ms: Ints = examples.rows.prefixes.now_ms
        self.labels: Floats = examples.rows.labels

    @classmethod
    def of(
        cls,
        tables: TrainingTables,
        encoder: Encoder,
        config: RankerConfig,
        kept: Mask | None = None,
        frozen: Ranker | None = None,
    ) -> VisitFeatures:
        """Derive the features of visits.

        Args:
            tables: events, and all visits.
            encoder: of the schema.
            config: names sources and signals.
            kept: [visit rows] bool, the visits to derive; None is all.
            frozen: a ranker whose statistics of everybody every visit reads, as that ranker
                serves them; None reads those of each visit's own time.
        """
        statistics = frozen.statistics if frozen else None
        return cls(Examples.from_tables(tables, encoder, config, kept, statistics), config)

    def matrix(self) -> tuple[list[str], Floats]:
        """Match counts and derived signals: names, and [N, P + R] float32, NaN where none."""
        moa, rows = self._config.moa, self._examples.rows
        counts = [
            f"{pair.history}~{pair.item}.count"
            + ("" if pair.window_days is None else f"_{pair.window_days:g}d_window")
            for pair in moa.pairs
        ]
        return counts + names(moa), np.concatenate([rows.counts, rows.signals], 1, dtype=np.float32)

    def batches(self, chosen: Mask) -> Batches:
        """Some rows as model inputs."""
        return Batches(self._examples, chosen, self._config.hstu.context, _GROUPS)


@dataclass(frozen=True)
class ScoredVisits:
    """What a ranker says of visits, and what happened.

    Attributes:
        users: [N] int64.
        probabilities, labels: [N, tasks] float32.
    """

    users: Ints
    probabilities: Floats
    labels: Floats


def backtest(ranker: Ranker, visits: VisitFeatures, chosen: Mask) -> ScoredVisits:
    """Score some visits."""
    logits, _ = predict(ranker.model, visits.batches(chosen))
    probabilities = ranker.calibration.apply(logits[chosen])
    return ScoredVisits(visits.users[chosen], probabilities, visits.labels[chosen])

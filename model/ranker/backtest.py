"""Backtest: visits of the past scored by a trained ranker, and their features for other learners.

Owns the offline reading of a checkpoint, and models that live for one measurement. Promises the
numbers that a live request would have got at each visit's time. Measures and baselines are the
caller's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..features import Encoder
from ..progress import Progress, silent
from ..schema import Schema
from ..tables import TrainingTables
from ..training import unkept
from .batches import Batches
from .calibration import Platt
from .config import RankerConfig
from .examples import Examples
from .matches import Floats, Ints
from .presets import Setup
from .ranker import Ranker
from .signals import names
from .train import Split, fit_model, fresh_model, predict, seeded

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


@dataclass(frozen=True)
class Trial:
    """What came of a model that was trained to be measured once.

    Attributes:
        probabilities: [H, tasks] float32 of the held-out rows.
        train_s: CPU seconds of the training steps, a fresh model's preparation included.
        parameters: learned numbers beside the shared table.
    """

    probabilities: Floats
    train_s: float
    parameters: int


def try_out(split: Split, setup: Setup, schema: Schema, progress: Progress = silent) -> Trial:
    """Learn from the training rows, calibrate on the validation rows, score the held-out ones.

    Nothing is written. Events of the held-out rows' time and later are history alone.

    Args:
        split: with validation rows.
        setup: of the model and its run.
        schema: of the examples.
        progress: told after every step.
    """
    config, training = setup
    rows = split.examples.rows
    began_s = time.process_time()
    with seeded(training.seed):
        model = fresh_model(split, config, schema)
        fit_model(model, split, training, unkept("trial"), progress)
        train_s = time.process_time() - began_s
        judged = split.validation | split.held_out
        logits, _ = predict(model, split.batches(judged, config, training))
    calibration = Platt.fit(logits[split.validation], rows.labels[split.validation])
    table = model.moa.embedding.weight.numel()
    return Trial(
        calibration.apply(logits[split.held_out]),
        train_s,
        sum(weights.numel() for weights in model.parameters()) - table,
    )

"""Presets: the sizes of a ranker and of its training run, by purpose.

Owns ``tiny`` (tests: seconds, a thousand visits), ``demo`` (the default data: about a minute
of one core), ``small`` (the same, as good as two cores make it in a quarter of an hour), ``base``
and ``large`` (for a GPU; histories of 4,096 events). Promises to derive every source from the
schema, so that another data set needs no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

from ..schema import Schema
from .config import AffinityConfig, HstuConfig, MatchPair, MoaConfig, RankerConfig

Preset = Literal["tiny", "demo", "small", "base", "large"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        epochs: passes over the training visits.
        groups: groups of up to 12 rows in a batch.
        max_visits: the newest visits before the held-out ones that train; None is all.
        negatives: negatives kept per positive, in training; held-out rows are all kept.
        held_out_days: the newest visits, for calibration and metrics.
        learning_rate: peak of a one-cycle schedule.
        clip_norm: largest norm of a step's gradient; a batch of rare positives exceeds it.
        validation_days: the newest visits before the held-out ones, which say when to stop and are
            not learned from; with 0 the held-out ones do, and flatter the metrics by a little.
        validations: how often a run measures itself on them; 0 takes every step and keeps the
            last weights.
        patience: so many of these in a row without a better one end it.
        weight_decay: decoupled, on everything but biases and norms.
        visit_balance: 0 weighs rows alike, 1 visits alike; see ``batches``.
        alpha: of stochastic length, see ``thinning``; 2 keeps every event.
        refit: learning rate, over the first one, of a last pass over the held-out visits after they
            have calibrated and judged; 0 leaves them out.
        context_dropout: share of groups whose context is hidden: live requests may lack one.
        seed: of weights, order and dropout.
    """

    epochs: int = 1
    groups: int = 128
    max_visits: int | None = None
    negatives: int = 10
    held_out_days: float = 14.0
    learning_rate: float = 3e-3
    clip_norm: float = 1.0
    validation_days: float = 0.0
    validations: int = 0
    patience: int = 2
    weight_decay: float = 1e-4
    visit_balance: float = 0.5
    alpha: float = 2.0
    refit: float = 0.0
    context_dropout: float = 0.5
    seed: int = 0


Setup = tuple[RankerConfig, TrainingConfig]
"""A ranker and its training run."""

# As many negatives as the hard set has, and the loss that is measured: each row alike.
SMALL = TrainingConfig(
    groups=112,
    negatives=20,
    held_out_days=28.0,
    validations=4,
    refit=0.25,
    visit_balance=0.0,
    learning_rate=2e-3,
    context_dropout=0.1,
)


def configure(
    preset: Preset, schema: Schema, history: Sequence[str], retrieved: bool = False
) -> Setup:
    """A ranker and its training run.

    Args:
        preset: the purpose.
        schema: the fields there are.
        history: item fields that events carry, in the schema's order.
        retrieved: whether visits say with what score their ads were retrieved.

    Raises:
        ValueError: an unknown preset.
    """
    if preset == "tiny":
        moa = _moa(schema, history, (None, 28.0), retrieved)
        config = RankerConfig(
            moa=replace(moa, table_rows=1_024, field_width=8, width=16),
            hstu=HstuConfig(query_width=8, value_width=8, window=8, normaliser=8.0),
            seeds=2,
            tower_width=16,
            overarch_width=32,
        )
        return config, TrainingConfig(
            epochs=4,
            groups=16,
            max_visits=1_200,
            learning_rate=6e-3,
            held_out_days=7.0,
            validation_days=7.0,
            validations=4,
        )
    if preset == "demo":
        # The whole history, a quarter, a month and a week: differences of counts say how demand
        # moved, which no single decay does.
        moa = _moa(schema, history, (None, 91.0, 28.0, 7.0), retrieved)
        # Half the items and half the fits: 7 seconds of one core instead of 30.
        affinity = AffinityConfig(max_items=4_096, refit_days=56.0)
        return RankerConfig(moa=replace(moa, affinity=affinity), hstu=HstuConfig()), TrainingConfig(
            negatives=8
        )
    # Differences of counts over nested windows say how demand moved, which no one window does.
    moa = _moa(schema, history, (None, 182.0, 91.0, 28.0, 7.0), retrieved)
    if preset == "small":
        config = RankerConfig(
            moa=replace(moa, width=64), hstu=HstuConfig(), overarch_width=128, history_dropout=0.5
        )
        return config, SMALL
    if preset == "base":
        config = RankerConfig(
            moa=replace(moa, table_rows=262_144, field_width=32, width=128),
            hstu=HstuConfig(layers=3, heads=4, value_width=32, window=256, normaliser=256.0),
            seeds=8,
            tower_width=64,
            overarch_width=256,
            history_dropout=0.5,
        )
        return config, replace(SMALL, groups=128, alpha=1.8)
    if preset == "large":
        config = RankerConfig(
            moa=replace(
                moa, max_events=4_096, table_rows=524_288, field_width=64, width=256, match_rows=32
            ),
            hstu=HstuConfig(
                layers=4,
                heads=4,
                query_width=32,
                value_width=64,
                window=1_024,
                normaliser=1_024.0,
            ),
            seeds=16,
            tower_width=128,
            overarch_width=512,
            history_dropout=0.5,
        )
        return config, replace(SMALL, alpha=1.6)
    raise ValueError(f"unknown preset {preset!r}; allowed: {', '.join(get_args(Preset))}")


def _moa(
    schema: Schema, history: Sequence[str], windows: Sequence[float | None], retrieved: bool
) -> MoaConfig:
    """Every field as a source; each history field matched against its own, in each window."""
    return MoaConfig(
        profile=schema.profile_fields,
        context=schema.context_fields,
        history=tuple(history),
        item=schema.item_fields,
        ro_query=schema.profile_fields + schema.context_fields,
        nro_query=schema.item_fields,
        pairs=tuple(MatchPair(name, name, days) for name in history for days in windows),
        popular=tuple(history),
        answered=schema.item_fields,
        answered_in=tuple(product(schema.context_fields, schema.item_fields)),
        affinity=AffinityConfig(),
        retrieved=retrieved,
    )

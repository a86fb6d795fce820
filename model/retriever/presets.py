"""Presets: the named settings of a training run.

Owns every number that a retriever's training may vary. Promises that a checkpoint's config, read
back, builds the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .cooccurrence import CooccurrenceSettings
from .loss import Loss
from .network import NetworkSettings

Preset = Literal["tiny", "demo", "small"]


@dataclass(frozen=True)
class RetrieverSettings:
    """How a retriever is built and trained.

    Attributes:
        network: widths.
        cooccurrence: the item to item regression.
        min_count: occurrences, on events and ads, that earn a value its embedding row.
        history_events: newest events of a user that are read, in training and in serving.
        query_features: most feature weights of one query, the largest.
        train_periods: newest ad periods to learn from.
        block_periods: periods that share one co-occurrence regression, of the events before them.
        held_out_periods: newest periods that are only measured on.
        refit: learn once more with the held-out periods, which resemble the next one most.
        batch: users of a step.
        epochs: passes over the examples.
        loss: what is minimised, see `loss`.
        learning_rate: highest, in a cycle that rises and falls once.
        clip_norm: largest norm of a step's gradient.
        validations: how often a run measures itself on the held-out periods, to stop early and to
            keep its best weights; 0 = at its end alone.
        patience: so many of these in a row without a better one end it.
        tower_decay: decoupled weight decay of towers, IPNN and bias, which else learn by heart who
            bought what when the same items are live in every period.
        hide: share of values of ads, profiles and contexts that training hides, so that unknown
            values are learned.
        value_power: what an ad was worth = (what the user spent on it) ** this; 0 = every
            purchase alike, as where every bid is equal.
        seed: of weights and order.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    cooccurrence: CooccurrenceSettings = field(default_factory=CooccurrenceSettings)
    min_count: int = 5
    history_events: int = 1024
    query_features: int = 2048
    train_periods: int = 20
    block_periods: int = 10
    held_out_periods: int = 1
    refit: bool = True
    batch: int = 64
    epochs: int = 1
    loss: Loss = "pairwise"
    learning_rate: float = 3e-3
    clip_norm: float = 10.0
    validations: int = 0
    patience: int = 2
    tower_decay: float = 0.0
    hide: float = 0.1
    value_power: float = 0.0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The settings as a manifest holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RetrieverSettings:
        """The inverse of `to_dict`."""
        rest = dict(values)
        network = NetworkSettings.from_dict(rest.pop("network"))
        cooccurrence = CooccurrenceSettings(**rest.pop("cooccurrence"))
        return cls(network=network, cooccurrence=cooccurrence, **rest)


PRESETS: Mapping[Preset, RetrieverSettings] = {
    "demo": RetrieverSettings(),
    # Some ten minutes on thousands of items that are all live, in long periods.
    "small": RetrieverSettings(
        network=NetworkSettings(factors=128),
        cooccurrence=CooccurrenceSettings(
            rank=128, ridge=600.0, min_users=10, min_together=3, max_items=16384
        ),
        history_events=4096,
        train_periods=6,
        block_periods=2,
        refit=False,
        epochs=3,
        loss="listwise",
        tower_decay=10.0,
    ),
    # Seconds on a few hundred generated events: for tests.
    "tiny": RetrieverSettings(
        network=NetworkSettings(
            width=8, tower=8, interactions=2, hidden=16, hit_hidden=8, factors=8
        ),
        cooccurrence=CooccurrenceSettings(rank=8, ridge=10.0, min_users=2, min_together=2),
        min_count=1,
        train_periods=4,
        block_periods=2,
        batch=16,
        epochs=4,
        learning_rate=1e-2,
        validations=4,
    ),
}

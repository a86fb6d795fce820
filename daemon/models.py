"""The models that this worker serves with.

Owns the choice of retriever, ranker and value model, and what their absence ("none") means: no
retriever leaves every embedding empty and every query without HitMatch weights, no ranker leaves
the order to retrieval. Promises that retriever and ranker read the same features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog
from numpy.typing import NDArray

from model.checkpoints import CheckpointError
from model.features import Encoder
from model.value import ValueModel

from .settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from model.ranker import Ranker
    from model.retriever import Retriever

log = structlog.get_logger(__name__)

NONE = "none"


@dataclass(frozen=True)
class Models:
    """What scores: any of the two models may be absent."""

    retriever: Retriever | None
    ranker: Ranker | None
    value: ValueModel
    encoder: Encoder | None

    @property
    def versions(self) -> dict[str, str]:
        """Version of each model that serves, or "none"."""
        return {
            "retriever": self.retriever.version if self.retriever else NONE,
            "ranker": self.ranker.version if self.ranker else NONE,
        }

    @property
    def columns(self) -> dict[str, str]:
        """What an ad's columns in the index rest on: other values make them useless."""
        return {
            "retriever": self.versions["retriever"],
            "schema": self.encoder.schema.hash if self.encoder else NONE,
        }

    @property
    def embedding_width(self) -> int:
        """Width D of an ad's embedding; 0 without a retriever."""
        return self.retriever.embedding_width if self.retriever else 0

    @property
    def payload_width(self) -> int:
        """Width P of an ad's item features; 0 without any model."""
        return len(self.encoder.schema.item_fields) if self.encoder else 0

    def items(self, features: Sequence[Mapping[str, Iterable[str]]]) -> NDArray[np.int64]:
        """Encode ads' features as [B, P] int64 raw ids."""
        if self.encoder is None:
            return np.zeros((len(features), 0), np.int64)
        return self.encoder.items(features)

    def reads_any(self, *fields: str) -> bool:
        """Whether an ad's item features are read from any of these fields."""
        if self.encoder is None:
            return False
        schema = self.encoder.schema
        return any(schema.source(name) in fields for name in schema.item_fields)

    def embed(self, items: NDArray[np.int64]) -> NDArray[np.int8]:
        """Embed [B, P] items as [B, D] int8."""
        if self.retriever is None:
            return np.zeros((len(items), 0), np.int8)
        return self.retriever.embed(items)


def load(settings: Settings) -> Models:
    """Load the configured checkpoints.

    Raises:
        ConfigurationError: a named checkpoint is missing, damaged, or was trained on other
            features than the other one.
    """
    names = settings.models
    retriever: Retriever | None = None
    ranker: Ranker | None = None
    try:
        # Imported when needed: a worker without models does without torch.
        if names.retriever != NONE:
            from model.retriever import Retriever

            retriever = Retriever.load(settings.checkpoints / names.retriever)
        if names.ranker != NONE:
            from model.ranker import Ranker

            ranker = Ranker.load(settings.checkpoints / names.ranker)
    except CheckpointError as error:
        raise ConfigurationError(f"models: {error}") from error
    if retriever and ranker and retriever.schema.hash != ranker.schema.hash:
        raise ConfigurationError(
            f"models: retriever {names.retriever} and ranker {names.ranker} were trained on "
            f"different features; train one of them again"
        )
    model = retriever or ranker
    value = settings.value
    loaded = Models(
        retriever=retriever,
        ranker=ranker,
        value=ValueModel(
            bid_power=value.bid_power,
            engage_power=value.engage_power,
            consume_power=value.consume_power,
        ),
        encoder=Encoder(model.schema) if model else None,
    )
    log.info("models_loaded", **loaded.versions)
    return loaded

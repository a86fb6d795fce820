"""The retriever as it serves: ads become int8 vectors, requests become queries.

Owns the way from a request or an ad to the index's numbers. Promises the scores that training
saw, up to the rounding of ads to int8. Searching is the index's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..features import Request
from ..schema import Schema
from ..tables import TrainingTables
from .parts import LIMIT, Parts
from .refresh import refreshed
from .sides import statistics_before, user_side
from .statistics import Window
from .tensors import UserTensors


@dataclass(frozen=True)
class RetrieverQuery:
    """What the index is asked; Q features, D embedding width.

    Attributes:
        raw_ids: [Q] int64 distinct raw ids of ad features, largest weight first.
        weights: [Q] float32, signed.
        vector: [D] float32; its product with an ad's int8 vector times `embedding_scale` is the
            embedding score.
    """

    raw_ids: np.ndarray
    weights: np.ndarray
    vector: np.ndarray


class Retriever:
    """A loaded retriever. Its methods change nothing and may run in several threads."""

    def __init__(self, parts: Parts, version: str) -> None:
        self._parts = parts
        self.version = version
        # The step sizes of the dimensions go into the user's vector, so that the index needs one
        # scale for all of them.
        self._user_scales = parts.ad_scales / self.embedding_scale

    @classmethod
    def load(cls, folder: Path, schema: Schema | None = None) -> Retriever:
        """Load a checkpoint.

        Args:
            folder: where `train_retriever` wrote it.
            schema: what it must have been trained on; None accepts its own.

        Raises:
            CheckpointMissing, CheckpointCorrupt, SchemaMismatch: see `checkpoints.read`.
        """
        return cls(*Parts.load(folder, schema))

    def refreshed(self, tables: TrainingTables) -> Retriever:
        """The same weights, with what is known of everybody at the end of other tables."""
        return Retriever(refreshed(self._parts, tables), self.version)

    @property
    def schema(self) -> Schema:
        """The fields it reads."""
        return self._parts.schema

    def has_learned_from(self, start_ms: int, end_ms: int) -> bool:
        """Whether the weights were fitted to anything that was bought in a period."""
        starts_ms, ends_ms = self._parts.learned.T
        return bool(((starts_ms < end_ms) & (ends_ms > start_ms)).any())

    @property
    def embedding_width(self) -> int:
        """D, dimensions of an ad's vector."""
        return self._parts.settings.network.joint

    @property
    def embedding_scale(self) -> float:
        """Real number that one int8 step of an ad's vector stands for."""
        return 1 / LIMIT

    def vectors(self, items: np.ndarray) -> np.ndarray:
        """[B, D] float32: what `embed` rounds, in steps."""
        steps: np.ndarray = self._parts.ad_vectors(items) / self._parts.ad_scales
        return steps

    def embed(self, items: np.ndarray) -> np.ndarray:
        """Embed ads.

        Args:
            items: [B, F] int64 raw ids in the order of the schema's item fields.

        Returns:
            [B, D] int8; a value beyond those of training is cut to the largest.
        """
        if not len(items):
            return np.zeros((0, self.embedding_width), np.int8)
        quantised: np.ndarray = np.clip(np.rint(self.vectors(items)), -LIMIT, LIMIT).astype(np.int8)
        return quantised

    def query(self, request: Request) -> RetrieverQuery:
        """Turn one user's side of a request into a query.

        Only the newest `history_events` events strictly before the request's time are read. An
        empty history gives no features and a vector of profile, context and popularity.
        """
        parts = self._parts
        statistics = statistics_before(
            request.history,
            Window.of(request.history.items),
            request.now_ms,
            parts.settings.history_events,
        )
        profile = np.concatenate((request.profile, request.context))
        side = user_side(statistics, profile, parts.vocabulary, parts.cooccurrence)
        # In training these are the values on a period's ads; here, all that could be on an ad.
        values = np.union1d(side.ids, side.evidence.ids)
        users = UserTensors.of([side], values, parts.profiles)
        priors = torch.from_numpy(parts.priors)
        sources = torch.from_numpy(parts.cooccurrence.source)
        with torch.inference_mode():
            weights = parts.network.weigh(
                users.hit_columns, priors[users.hit_rows], users.hit_fields
            ).numpy()
            vector = parts.network.user_vectors(
                users.profile_rows,
                users.users,
                users.fields,
                users.rows,
                users.weights,
                parts.network.taste(users, priors, sources),
            ).numpy()[0]
        kept = np.argsort(-np.abs(weights), kind="stable")[: parts.settings.query_features]
        return RetrieverQuery(values[kept], weights[kept], vector * self._user_scales)

"""Pipeline: a trained retriever before an index of all items, as a worker has them.

Owns the way from the split to a list of items: the worker's own translation, index and search, and
beside it the same scores without any rounding. Promises that a user's query rests only on what was
known before the moment it is asked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuindex import Index, IndexSettings, Query
from model.features import Encoder, Request
from model.retriever import Retriever, RetrieverQuery
from model.retriever.population import Population
from model.tables import TrainingTables
from model.value import ValueModel
from stream.records import Ad, AdChange

from ..features import FeatureMap
from ..models import Models
from ..translate import AdColumns
from .measures import LENGTH, Ints


class Pipeline:
    """All items as ads, whose ids are the items' positions, and all users as requests."""

    def __init__(self, retriever: Retriever, tables: TrainingTables, now_ms: int) -> None:
        """Fill the index.

        Args:
            retriever: trained.
            tables: one row of ads per item in the newest period, and the users' past.
            now_ms: the moment at which every user asks.
        """
        encoder = Encoder(retriever.schema)
        models = Models(retriever, None, ValueModel(), encoder)
        newest = tables.ads.num_rows // len(np.unique(tables.ads["week"].to_numpy()))
        ads = tables.ads.slice(tables.ads.num_rows - newest)
        self._index = Index(IndexSettings(models.embedding_width, models.payload_width))
        self._features = FeatureMap(self._index.features, encoder)
        fields = ads.select(list(retriever.schema.item_fields)).to_pylist()
        columns = AdColumns(self._features, models)
        for ad_id, features in enumerate(fields):
            columns.add(_change(ad_id, features))
        self._index.apply(columns.batch())
        self._view = self._index.publish()

        self._retriever = retriever
        self.now_ms = now_ms
        self._people = Population.of(tables, encoder)
        self._users = np.unique(tables.events["user_id"].to_numpy())
        items = encoder.items_from_table(ads)
        self._values, self._value_at = np.unique(items, return_inverse=True)
        self._vectors = retriever.vectors(items) * retriever.embedding_scale
        self._queries: dict[int, RetrieverQuery] = {}

    def places(self, user_ids: Ints) -> list[int]:
        """Where some users, who each have a past, stand among all who have."""
        places: list[int] = np.searchsorted(self._users, user_ids).tolist()
        return places

    def query(self, user: int) -> RetrieverQuery:
        """What a user's request becomes; made once."""
        if user not in self._queries:
            people = self._people
            self._queries[user] = self._retriever.query(
                Request(
                    people.profiles[user],
                    people.contexts[user],
                    self.now_ms,
                    people.histories[user],
                )
            )
        return self._queries[user]

    def search(self, user: int, hidden: Ints) -> Ints:
        """A user's first items, without some, as a worker finds them: in integers, of int8 ads."""
        return self.retrieve(user, hidden, LENGTH)[0]

    def retrieve(self, user: int, hidden: Ints, depth: int) -> tuple[Ints, NDArray[np.float32]]:
        """[depth] items of a user, best first and without some, and their scores."""
        learned = self.query(user)
        ids, weights = self._features.resolve(learned.raw_ids, learned.weights)
        query = Query(
            feature_ids=ids,
            weights=weights,
            vector=learned.vector,
            embedding_scale=self._retriever.embedding_scale,
            now_ms=self.now_ms,
            seed=0,
            excluded=hidden,
        )
        found = self._view.search(query, depth)
        return found.ad_ids, (found.scores * found.unit).astype(np.float32)

    def exact(self, user: int) -> NDArray[np.float32]:
        """[I] scores of all items in float32: nothing is rounded."""
        learned = self.query(user)
        weights = np.zeros(len(self._values), np.float32)
        at = np.searchsorted(self._values, learned.raw_ids)
        at = np.minimum(at, len(self._values) - 1)
        known = self._values[at] == learned.raw_ids
        weights[at[known]] = learned.weights[known]
        hits = weights[self._value_at].sum(axis=1)
        scores: NDArray[np.float32] = hits + self._vectors @ learned.vector
        return scores


def _change(ad_id: int, features: dict[str, str | None]) -> AdChange:
    present = {field: {value: 1.0} for field, value in features.items() if value is not None}
    return AdChange(ad_id, 1, Ad(version=1, advertiser="", campaign="", features=present))

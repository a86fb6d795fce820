"""The seam between exact features and the models' hashed ones.

The index knows a feature by the exact key `field=value`; the models know it by a hash. Owns the
map from one to the other for every feature that an ad has carried, so that a retriever's query
becomes a query of inverted lists. Written by the intake thread, read by the scoring thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import structlog
from numpy.typing import NDArray

from gpuindex import FeatureDictionary
from model.features import Encoder

log = structlog.get_logger(__name__)


class FieldMap(dict[str, int]):
    """One field's values to ids of the index; a value never seen before gets a new one.

    A dictionary, so that many values are looked up by `map` without any Python between them.
    """

    def __init__(self, field: str, intern: Callable[[str], int]) -> None:
        super().__init__()
        self._field = field
        self._intern = intern

    def __missing__(self, value: str) -> int:
        feature_id = self[value] = self._intern(f"{self._field}={value}")
        return feature_id


class FeatureMap:
    """Feature keys to the index's ids, and the models' raw ids to the same."""

    def __init__(self, dictionary: FeatureDictionary, encoder: Encoder | None) -> None:
        self._dictionary = dictionary
        self._encoder = encoder
        self._by_raw: dict[int, int] = {}
        self._by_field: dict[str, FieldMap] = {}
        for feature_id in range(len(dictionary)):
            self._map(dictionary.key(feature_id), feature_id)
        self._mapped = len(dictionary)

    def __len__(self) -> int:
        return len(self._dictionary)

    def key(self, feature_id: int) -> str:
        """The exact key of a feature, `field=value`."""
        return self._dictionary.key(feature_id)

    def of_field(self, field: str) -> FieldMap:
        """The ids of the field's features by value; `map[value]` numbers a new one."""
        known = self._by_field.get(field)
        if known is None:
            known = self._by_field[field] = FieldMap(field, self._intern)
        return known

    def _intern(self, key: str) -> int:
        feature_id = self._dictionary.intern(key)
        if feature_id >= self._mapped:
            self._map(key, feature_id)
            self._mapped = feature_id + 1
        return feature_id

    def resolve(
        self, raw_ids: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Translate a retriever's query, leaving out what no ad has ever carried.

        Args:
            raw_ids: [Q] int64 raw ids of ad-side features.
            weights: [Q] float32, their signed weights.

        Returns:
            [R] int32 feature ids of the index and their [R] float32 weights, R <= Q.
        """
        by_raw = self._by_raw
        ids = np.fromiter((by_raw.get(raw, -1) for raw in raw_ids.tolist()), np.int32, len(raw_ids))
        known = ids >= 0
        return ids[known], weights[known]

    def named(self, raw_ids: Iterable[int]) -> dict[str, dict[str, float]]:
        """The features that raw ids stand for, {field: {value: 1.0}}; 0 stands for none."""
        named: dict[str, dict[str, float]] = {}
        for raw_id in raw_ids:
            if (feature_id := self._by_raw.get(raw_id)) is not None:
                field, _, value = self._dictionary.key(feature_id).partition("=")
                named[field] = {value: 1.0}
        return named

    def _map(self, key: str, feature_id: int) -> None:
        if self._encoder is None:
            return
        raw_id = self._encoder.raw_id(key)
        if self._by_raw.setdefault(raw_id, feature_id) != feature_id:
            other = self._dictionary.key(self._by_raw[raw_id])
            log.error("feature_hash_collision", feature=key, other=other, raw_id=raw_id)

"""Batches of records as columns, the form in which the index takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Bool, Float32, Float64, Int8, Int32, Int64, UInt8
from .columns import NO_GROUP
from .errors import InvalidBatch
from .targeting import Targeting

# Biases are clipped to this, so that one unit of score fits every query to the
# same int32 whatever the biases are. Biases are logarithms: e^32 is 8e13.
BIAS_LIMIT = 32.0


@dataclass(frozen=True)
class Applied:
    """How many records changed something, and how many were old news."""

    applied: int
    skipped: int


def _require(array: NDArray[np.generic], name: str, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise InvalidBatch(
            f"{name} is {array.dtype}{list(array.shape)}; it must be {np.dtype(dtype)}{list(shape)}"
        )


@dataclass(frozen=True, eq=False)
class AdBatch:
    """Upserts and deletes in order of arrival; several may concern one ad.

    B records, F features in all, D embedding width, P payload width. What a
    delete's rows hold besides id and version does not matter.

    Attributes:
        ad_ids: [B] int64, >= 0.
        versions: [B] int64; on a delete -1 stands for the last known + 1.
        deleted: [B] bool.
        feature_offsets: [B + 1] int32; record b owns features o[b]:o[b + 1].
        feature_ids: [F] int32, numbers of the index's dictionary.
        weights: [F] uint8, 255 = 1.0; 0 counts as 1.
        embeddings: [B, D] int8.
        payload: [B, P] int64.
        targeting: B rule sets, None for no rule.
        groups: [B] int32, whose ads a query may limit together, as an
            advertiser's; negative for none, and None for none at all.
    """

    ad_ids: Int64
    versions: Int64
    deleted: Bool
    feature_offsets: Int32
    feature_ids: Int32
    weights: UInt8
    embeddings: Int8
    payload: Int64
    targeting: Sequence[Targeting | None]
    groups: Int32 | None = None

    def __len__(self) -> int:
        return len(self.ad_ids)

    @staticmethod
    def joined(batches: Sequence["AdBatch"], rows: Int64) -> "AdBatch":
        """Records of several batches as one batch.

        Args:
            batches: with equal widths.
            rows: which records in which order, counted through all batches.
        """
        starts, ends = [], []
        features = 0
        for batch in batches:
            starts.append(batch.feature_offsets[:-1] + features)
            ends.append(batch.feature_offsets[1:] + features)
            features += len(batch.feature_ids)
        begins = np.concatenate(starts)[rows]
        counts = np.concatenate(ends)[rows] - begins
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        taken = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
        targeting = [rule_set for batch in batches for rule_set in batch.targeting]
        groups = [
            np.full(len(batch), NO_GROUP, np.int32) if batch.groups is None else batch.groups
            for batch in batches
        ]
        return AdBatch(
            ad_ids=np.concatenate([batch.ad_ids for batch in batches])[rows],
            versions=np.concatenate([batch.versions for batch in batches])[rows],
            deleted=np.concatenate([batch.deleted for batch in batches])[rows],
            feature_offsets=offsets,
            feature_ids=np.concatenate([batch.feature_ids for batch in batches])[taken],
            weights=np.concatenate([batch.weights for batch in batches])[taken],
            embeddings=np.concatenate([batch.embeddings for batch in batches])[rows],
            payload=np.concatenate([batch.payload for batch in batches])[rows],
            targeting=[targeting[row] for row in rows.tolist()],
            groups=np.concatenate(groups)[rows],
        )

    def check(self, embedding_width: int, payload_width: int, feature_count: int) -> None:
        """Raise InvalidBatch unless the batch fits itself and the index."""
        records = len(self.ad_ids)
        features = len(self.feature_ids)
        _require(self.ad_ids, "ad_ids", np.int64, (records,))
        _require(self.versions, "versions", np.int64, (records,))
        _require(self.deleted, "deleted", np.bool_, (records,))
        _require(self.feature_offsets, "feature_offsets", np.int32, (records + 1,))
        _require(self.feature_ids, "feature_ids", np.int32, (features,))
        _require(self.weights, "weights", np.uint8, (features,))
        _require(self.embeddings, "embeddings", np.int8, (records, embedding_width))
        _require(self.payload, "payload", np.int64, (records, payload_width))
        if self.groups is not None:
            _require(self.groups, "groups", np.int32, (records,))
        if len(self.targeting) != records:
            raise InvalidBatch(f"{len(self.targeting)} rule sets for {records} records")
        offsets = self.feature_offsets
        if offsets[0] != 0 or offsets[-1] != features or (np.diff(offsets) < 0).any():
            raise InvalidBatch(f"feature_offsets must rise from 0 to {features}")
        if features and not 0 <= self.feature_ids.min() <= self.feature_ids.max() < feature_count:
            raise InvalidBatch(f"feature_ids must be within 0..{feature_count - 1}")
        if records and self.ad_ids.min() < 0:
            raise InvalidBatch("ad_ids must not be negative")


@dataclass(frozen=True, eq=False)
class DeliveryBatch:
    """Delivery states in order of arrival, each one whole, never a patch.

    Attributes:
        ad_ids: [B] int64, >= 0; the ad need not exist yet.
        versions: [B] int64; on a reset -1 stands for the last known + 1.
        reset: [B] bool, back to the defaults, whatever the other columns say.
        active: [B] bool.
        start_ms, end_ms: [B] int64, the flight [start, end).
        budget_left: [B] float64, infinite for no limit; spent at 0.
        pacing: [B] float32, share of requests that the ad takes part in.
        bid: [B] float32.
        bias: [B] float32, added to scores in mode "full"; clipped to BIAS_LIMIT.
    """

    ad_ids: Int64
    versions: Int64
    reset: Bool
    active: Bool
    start_ms: Int64
    end_ms: Int64
    budget_left: Float64
    pacing: Float32
    bid: Float32
    bias: Float32

    def __len__(self) -> int:
        return len(self.ad_ids)

    def check(self) -> None:
        """Raise InvalidBatch unless the columns fit each other."""
        shape = (len(self.ad_ids),)
        _require(self.ad_ids, "ad_ids", np.int64, shape)
        _require(self.versions, "versions", np.int64, shape)
        _require(self.reset, "reset", np.bool_, shape)
        _require(self.active, "active", np.bool_, shape)
        _require(self.start_ms, "start_ms", np.int64, shape)
        _require(self.end_ms, "end_ms", np.int64, shape)
        _require(self.budget_left, "budget_left", np.float64, shape)
        _require(self.pacing, "pacing", np.float32, shape)
        _require(self.bid, "bid", np.float32, shape)
        _require(self.bias, "bias", np.float32, shape)
        if len(self) and self.ad_ids.min() < 0:
            raise InvalidBatch("ad_ids must not be negative")
        for name in ("budget_left", "pacing", "bid", "bias"):
            if np.isnan(getattr(self, name)).any():
                raise InvalidBatch(f"{name} must not be NaN")

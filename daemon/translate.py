"""Records to columns: what Kafka said becomes what the index applies.

Owns the translation of ads and delivery states, record for record and in arrival order,
embeddings included. Promises that one call makes one batch; applying it is ingest's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

import numpy as np

from gpuindex import NO_GROUP, AdBatch, DeliveryBatch, Rule, Targeting
from stream.records import Ad, AdChange, ControlChange
from stream.records import Rule as RecordRule

from .features import FeatureMap
from .models import Models

# Whose an ad is, as features of it.
ADVERTISER = "advertiser"
CAMPAIGN = "campaign"

_OPEN_END_MS = np.iinfo(np.int64).max
_WHOLE = (1.0, 1.0)
_NO_FEATURES: Mapping[str, Iterable[str]] = {}


def rules(record_rules: Mapping[str, RecordRule]) -> Targeting:
    """Turn the records' `{field: {allow, deny}}` into the index's rules."""
    return tuple(
        Rule(
            field,
            None if rule.allow is None else frozenset(rule.allow),
            frozenset(rule.deny or ()),
        )
        for field, rule in sorted(record_rules.items())
    )


class AdColumns:
    """Ads and deletions on their way to columns.

    Takes each change as soon as it is decoded: to keep thousands of them until all are there costs
    twice the decoding, since none would fit the memory of the one before.
    """

    def __init__(self, features: FeatureMap, models: Models) -> None:
        self._features = features
        self._models = models
        self._advertisers = features.of_field(ADVERTISER)
        self._campaigns = features.of_field(CAMPAIGN)
        self._reads_owners = models.reads_any(ADVERTISER, CAMPAIGN)
        self._ad_ids: list[int] = []
        self._versions: list[int] = []
        self._deleted: list[bool] = []
        self._ends = [0]
        self._ids: list[int] = []
        self._weights: list[float] = []
        self._groups: list[int] = []
        self._targeting: list[Targeting | None] = []
        self._models_features: list[Mapping[str, Iterable[str]]] = []

    def add(self, change: AdChange) -> None:
        """Take the next change; new features are numbered."""
        ad = change.ad
        self._ad_ids.append(change.ad_id)
        self._versions.append(change.version)
        self._deleted.append(ad is None)
        if ad is None:
            self._add_rest(NO_GROUP, None, _NO_FEATURES)
            return
        of_field, ids, weights = self._features.of_field, self._ids, self._weights
        for field, values in ad.features.items():
            ids += map(of_field(field).__getitem__, values)
            weights += values.values() if isinstance(values, dict) else repeat(1.0, len(values))
        advertiser = self._advertisers[ad.advertiser]
        ids += advertiser, self._campaigns[ad.campaign]
        weights += _WHOLE
        read_by_models = self._read_by_models(ad)
        self._add_rest(
            advertiser if ad.advertiser else NO_GROUP,
            rules(ad.targeting) if ad.targeting else None,
            read_by_models,
        )

    def _read_by_models(self, ad: Ad) -> Mapping[str, Iterable[str]]:
        """What the models read of an ad; what they derive of it becomes features of the index."""
        if self._models.encoder is None:
            return _NO_FEATURES
        features: Mapping[str, Iterable[str]] = ad.features
        if self._reads_owners:
            owners = {ADVERTISER: ad.advertiser, CAMPAIGN: ad.campaign}
            known = {field: (name,) for field, name in owners.items() if name}
            features = {**known, **ad.features}
        for field, value in self._models.encoder.schema.derive(features).items():
            self._ids.append(self._features.of_field(field)[value])
            self._weights.append(1.0)
        return features

    def _add_rest(
        self, group: int, targeting: Targeting | None, features: Mapping[str, Iterable[str]]
    ) -> None:
        self._ends.append(len(self._ids))
        self._groups.append(group)
        self._targeting.append(targeting)
        self._models_features.append(features)

    def batch(self) -> AdBatch:
        """All changes taken, with their embeddings.

        B changes, F feature values in all, D embedding width, P payload width; a deletion carries
        no features, zero embedding and zero payload.
        """
        payload = self._models.items(self._models_features)
        return AdBatch(
            ad_ids=np.array(self._ad_ids, np.int64),
            versions=np.array(self._versions, np.int64),
            deleted=np.array(self._deleted, np.bool_),
            feature_offsets=np.array(self._ends, np.int32),
            feature_ids=np.array(self._ids, np.int32),
            # A feature that is there has a weight that is there: never rounded down to absent.
            weights=np.maximum(np.rint(np.array(self._weights) * 255), 1).astype(np.uint8),
            embeddings=self._models.embed(payload),
            payload=payload,
            targeting=self._targeting,
            groups=np.array(self._groups, np.int32),
        )


def delivery_batch(changes: Sequence[ControlChange], models: Models) -> DeliveryBatch:
    """Translate delivery states; a null record (reset) restores the defaults."""
    states = [change.delivery for change in changes]
    bids = np.array([1.0 if s is None else s.bid for s in states], np.float32)
    return DeliveryBatch(
        ad_ids=np.array([change.ad_id for change in changes], np.int64),
        versions=np.array([change.version for change in changes], np.int64),
        reset=np.array([s is None for s in states], np.bool_),
        active=np.array([s is None or s.status == "active" for s in states], np.bool_),
        start_ms=np.array(
            [0 if s is None or s.start_ms is None else s.start_ms for s in states], np.int64
        ),
        end_ms=np.array(
            [_OPEN_END_MS if s is None or s.end_ms is None else s.end_ms for s in states], np.int64
        ),
        budget_left=np.array(
            [np.inf if s is None or s.budget_left is None else s.budget_left for s in states],
            np.float64,
        ),
        pacing=np.array([1.0 if s is None else s.pacing for s in states], np.float32),
        bid=bids,
        bias=models.value.retrieval_bias(bids),
    )

"""Records to columns: what Kafka said becomes what the index applies.

Owns the translation of ads and delivery states, record for record and in arrival order,
embeddings included. Promises that one call makes one batch; applying it is ingest's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gpuindex import NO_GROUP, AdBatch, DeliveryBatch, Rule, Targeting
from stream.records import Ad, AdChange, ControlChange
from stream.records import Rule as RecordRule

from .features import FeatureMap
from .models import Models

_OPEN_END_MS = np.iinfo(np.int64).max
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


def ad_batch(changes: Sequence[AdChange], features: FeatureMap, models: Models) -> AdBatch:
    """Translate ads and deletions.

    B changes, F feature values in all, D embedding width, P payload width; a deletion carries no
    features, zero embedding and zero payload.
    """
    offsets = np.zeros(len(changes) + 1, np.int32)
    ids: list[int] = []
    weights: list[float] = []
    groups = np.full(len(changes), NO_GROUP, np.int32)
    for row, change in enumerate(changes):
        if change.ad is not None:
            for field, values in _fields(change.ad):
                for value, weight in values.items():
                    ids.append(features.intern(f"{field}={value}"))
                    weights.append(weight)
            if change.ad.advertiser:
                groups[row] = features.intern(f"advertiser={change.ad.advertiser}")
        offsets[row + 1] = len(ids)
    payload = models.items([_NO_FEATURES if c.ad is None else c.ad.features for c in changes])
    return AdBatch(
        ad_ids=np.array([change.ad_id for change in changes], np.int64),
        versions=np.array([change.version for change in changes], np.int64),
        deleted=np.array([change.ad is None for change in changes], np.bool_),
        feature_offsets=offsets,
        feature_ids=np.array(ids, np.int32),
        # A feature that is there has a weight that is there: never rounded down to absent.
        weights=np.maximum(np.rint(np.array(weights, np.float64) * 255), 1).astype(np.uint8),
        embeddings=models.embed(payload),
        payload=payload,
        targeting=[None if c.ad is None else rules(c.ad.targeting) or None for c in changes],
        groups=groups,
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


def _fields(ad: Ad) -> Iterable[tuple[str, Mapping[str, float]]]:
    """All features of an ad: its own, and whose it is."""
    yield from ad.features.items()
    yield "advertiser", {ad.advertiser: 1.0}
    yield "campaign", {ad.campaign: 1.0}

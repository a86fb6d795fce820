"""Every kernel loaded and run once, before anything is measured by a clock."""

import numpy as np

from .arrays import Int64
from .batch import AdBatch, DeliveryBatch
from .index import Index
from .query import Query
from .settings import IndexSettings
from .targeting import Rule
from .view import IndexView


def warm(settings: IndexSettings) -> None:
    """Run each operation on a small index of its own.

    Kernels are compiled, or loaded from their cache, when this package is
    imported; running them once resolves calls and touches their code.

    Args:
        settings: those of the index that is going to serve.
    """
    index = Index(settings)
    ads = 4
    feature = index.features.intern("field=value")
    batch = AdBatch(
        ad_ids=np.arange(ads),
        versions=np.ones(ads, np.int64),
        deleted=np.zeros(ads, np.bool_),
        feature_offsets=np.arange(ads + 1, dtype=np.int32),
        feature_ids=np.full(ads, feature, np.int32),
        weights=np.full(ads, 255, np.uint8),
        embeddings=np.ones((ads, settings.embedding_width), np.int8),
        payload=np.zeros((ads, settings.payload_width), np.int64),
        targeting=[None] * ads,
    )
    index.apply(batch)
    index.apply_delivery(
        DeliveryBatch(
            ad_ids=batch.ad_ids,
            versions=batch.versions,
            reset=np.ones(ads, np.bool_),
            active=np.ones(ads, np.bool_),
            start_ms=np.zeros(ads, np.int64),
            end_ms=np.zeros(ads, np.int64),
            budget_left=np.zeros(ads, np.float64),
            pacing=np.zeros(ads, np.float32),
            bid=np.zeros(ads, np.float32),
            bias=np.zeros(ads, np.float32),
        )
    )
    # The tail's kernels, and those of shards.
    _search(index.publish(), feature, batch.ad_ids)
    index.seal()
    index.start_compaction(0)
    while index.maintain():
        pass
    _search(index.publish(), feature, batch.ad_ids)


def _search(view: IndexView, feature: int, ad_ids: Int64) -> None:
    """Ask for the ads that carry a feature, in every mode and with every restriction."""
    for mode in ("full", "sparse"):
        query = Query(
            feature_ids=np.array([feature], np.int32),
            weights=np.ones(1, np.float32),
            vector=np.ones(view.tail.columns.embeddings.shape[1], np.float32),
            embedding_scale=1.0,
            now_ms=1,
            seed=0,
            mode=mode,
            filters=(Rule("field", allow=frozenset({"value"})),),
        )
        view.gather(view.search(query, len(ad_ids), within=ad_ids).slots)

"""The live index: compressed inverted lists and embeddings that stay fresh.

Ads go in as batches; a publication makes them visible; a view finds the exact
best of them for a query. Nothing here knows Kafka, models or raw ids: the
caller numbers features through `Index.features`.
"""

from .batch import AdBatch, Applied, DeliveryBatch
from .columns import NO_GROUP
from .dictionary import FeatureDictionary
from .division import SearchThreads
from .errors import (
    DeviceUnusable,
    IndexFault,
    InvalidBatch,
    InvalidQuery,
    MemoryBudgetExceeded,
    SnapshotUnsupported,
)
from .explain import Explanation, Match, explain
from .index import Index
from .query import Query
from .settings import IndexSettings
from .shard import ShardKind
from .targeting import Rule, Targeting
from .view import AdState, Candidates, IndexView
from .warming import warm

__all__ = [
    "NO_GROUP",
    "AdBatch",
    "AdState",
    "Applied",
    "Candidates",
    "DeliveryBatch",
    "DeviceUnusable",
    "Explanation",
    "FeatureDictionary",
    "Index",
    "IndexFault",
    "IndexSettings",
    "IndexView",
    "InvalidBatch",
    "InvalidQuery",
    "Match",
    "MemoryBudgetExceeded",
    "Query",
    "Rule",
    "SearchThreads",
    "ShardKind",
    "SnapshotUnsupported",
    "Targeting",
    "explain",
    "warm",
]

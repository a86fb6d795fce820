"""The index's settings, read once and frozen."""

from dataclasses import dataclass
from typing import Literal

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class IndexSettings:
    """How an index is laid out and when it tidies up.

    Attributes:
        embedding_width: dimensions of an ad's embedding, 0 for none.
        payload_width: int64 values kept per ad for the ranker.
        seal_ads: a tail with this many ads is sealed into a delta shard.
        compact_deltas: this many deltas are folded together.
        order_fields: folded ads are ordered by these fields' values, the first
            field first; fields that ads do not have change nothing.
        deleted_memory_ms: how long the version of a deleted ad is remembered.
        memory_budget_bytes: batches that would pass it are refused; None = no
            limit. Folding shards takes up to their size more while it lasts,
            and names are in the dictionary before a batch uses them.
        device: where searches run; `device.choice` says what can be used.
        device_memory_budget_bytes: the same limit for the device's memory, which
            there holds for folding too; None = what the device has.
    """

    embedding_width: int
    payload_width: int
    # The tail is searchable already, by looking at each of its ads; at 4,096
    # ads that look costs about as much as a delta shard's lists do.
    seal_ads: int = 4_096
    # Every shard costs a light query time; fewer would rewrite young ads more often.
    compact_deltas: int = 4
    order_fields: tuple[str, ...] = ("advertiser", "category")
    deleted_memory_ms: int = 7 * DAY_MS
    memory_budget_bytes: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    device_memory_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("seal_ads", "compact_deltas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("embedding_width", "payload_width", "deleted_memory_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")

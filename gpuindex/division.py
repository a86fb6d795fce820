"""A search divided among threads, each with slots of its own.

Threads share the blocks of ads, not the lists, so that every slot is scored and
tested by one of them, and what they find only has to be merged.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from .arrays import Int32, Int64
from .kernels.cpu import shards

Part = TypeVar("Part")
Result = TypeVar("Result")


class SearchThreads:
    """Threads for searches; one caller at a time, who works along.

    Attributes:
        count: how many, the caller's own included.
    """

    def __init__(self, count: int) -> None:
        """Start no thread yet; they start when they are first needed."""
        if count < 1:
            raise ValueError(f"count is {count}; it must be at least 1")
        self.count = count
        self._pool = ThreadPoolExecutor(max(1, count - 1), "search")

    def map(self, work: Callable[[Part], Result], parts: list[Part]) -> list[Result]:
        """The results of all parts, the first of them worked on by the caller."""
        others = [self._pool.submit(work, part) for part in parts[1:]]
        own = work(parts[0])
        return [own, *(each.result() for each in others)]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


@dataclass(frozen=True, eq=False)
class Found:
    """The best of a part: scores int32, ad ids int64 and slots int32, best first."""

    scores: Int32
    ad_ids: Int64
    slots: Int32


def divided(table: Int64, count: int) -> list[Int64]:
    """Cut a shard table between blocks into parts of about as many slots.

    Args:
        table: [S, FIELDS] int64.
        count: how many parts.
    """
    ends = np.cumsum(table[:, shards.ADS])
    total = int(ends[-1]) if len(ends) else 0
    cuts = [total * part // count for part in range(count + 1)]
    parts = []
    for begin, end in pairwise(cuts):
        rows = []
        for row, row_end in zip(table, ends, strict=True):
            row_begin = int(row_end - row[shards.ADS])
            first, last = (
                _block_edge(cut - row_begin, int(row[shards.ADS])) for cut in (begin, end)
            )
            if first < last:
                rows.append(_run(row, first, last))
        parts.append(np.array(rows, np.int64).reshape(-1, shards.FIELDS))
    return parts


def merged(founds: list[Found], k: int) -> Found:
    """The best k of several parts."""
    scores, ad_ids, slots = (
        np.concatenate([getattr(found, name) for found in founds])
        for name in ("scores", "ad_ids", "slots")
    )
    best = np.lexsort((ad_ids, -scores.astype(np.int64)))[:k]
    return Found(scores[best], ad_ids[best], slots[best])


def _block_edge(slot: int, ads: int) -> int:
    """The edge of a block, or of the shard, that is nearest to a slot."""
    if slot >= ads:
        return ads
    return min(ads, round(max(0, slot) / shards.BLOCK_SLOTS) * shards.BLOCK_SLOTS)


def _run(row: Int64, first: int, last: int) -> Int64:
    """A row of the shard table for some of the shard's slots."""
    run = row.copy()
    run[shards.FIRST_SLOT] += first
    run[shards.ADS] = last - first
    run[shards.FIRST_BLOCK] = first // shards.BLOCK_SLOTS
    run[shards.AD_IDS] += 8 * first
    run[shards.TARGETING] += 4 * first
    run[shards.EMBEDDINGS] += row[shards.WIDTH] * first
    return run

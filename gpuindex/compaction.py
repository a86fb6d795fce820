"""Compaction: neighbouring shards folded into one, without their dead ads.

The writer takes it a step at a time between batches, and queries never wait:
views go on reading the old shards. What changes meanwhile is the state by slot
only, so whatever died or got a new delivery state before the last step is
looked up again when the new shard takes the place of the old ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Int32, Int64, UInt8
from .columns import AdColumns
from .kernels.cpu.compact import unpack
from .postings import Postings
from .shard import Shard, ShardKind, shard_table


def choose(shards: Sequence[Shard], deltas: int) -> int | None:
    """The first of the trailing shards to fold together, or None.

    Folds when `deltas` sealed tails have gathered, and takes a larger neighbour
    in as long as it is less than twice what is folded: so an ad is rewritten a
    logarithmic number of times as the index grows, and the number of shards
    stays logarithmic too.

    Args:
        shards: the sealed ones, in order.
        deltas: how many to gather that were never folded.
    """
    first = len(shards)
    folded = 0
    while first > 0 and not shards[first - 1].folded:
        first -= 1
        folded += shards[first].ads
    if len(shards) - first < deltas:
        return None
    while first > 0 and shards[first - 1].ads < 2 * folded:
        first -= 1
        folded += shards[first].ads
    return first


@dataclass(frozen=True, eq=False)
class Folded:
    """The outcome of a compaction.

    Attributes:
        shard: the new shard of A slots.
        origins: [A] int64, for each new slot its old one, counted from the
            first slot of the first folded shard, ascending.
    """

    shard: Shard
    origins: Int64


class Compaction:
    """The folding of neighbouring shards, one shard per step and one to build."""

    def __init__(
        self,
        first: int,
        placed: Sequence[tuple[int, Shard]],
        keeps: Sequence[UInt8],
        feature_count: int,
    ) -> None:
        """Plan a compaction.

        Args:
            first: number of the first shard.
            placed: first slots and shards.
            keeps: [ads] uint8 for each, 0 = dead.
            feature_count: features in the dictionary.
        """
        self.first = first
        self._placed = placed
        self._keeps = keeps
        self._feature_count = feature_count
        self._sizes: list[Int64] = []
        self._features: list[Int32] = []
        self._weights: list[UInt8] = []

    @property
    def shards(self) -> int:
        """How many shards are folded."""
        return len(self._placed)

    def step(self) -> Folded | None:
        """Do the next bounded piece; the outcome after the last one."""
        done = len(self._sizes)
        if done < len(self._placed):
            table = shard_table([self._placed[done]])
            bounds, features, weights = unpack(table, 0, self._keeps[done])
            self._sizes.append(np.diff(bounds))
            self._features.append(features)
            self._weights.append(weights)
            return None
        chosen = [np.flatnonzero(keep) for keep in self._keeps]
        sizes = np.concatenate(self._sizes)
        kept = len(sizes)
        postings = Postings.built(
            kept,
            np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
            np.concatenate(self._features),
            np.concatenate(self._weights),
            np.ones(kept, np.uint8),
            self._feature_count,
        )
        start = self._placed[0][0]
        origins = [
            slots + first_slot - start
            for slots, (first_slot, _) in zip(chosen, self._placed, strict=True)
        ]
        columns = AdColumns.gathered(
            [(shard.columns, slots) for slots, (_, shard) in zip(chosen, self._placed, strict=True)]
        )
        kind: ShardKind = "base" if self.first == 0 else "delta"
        return Folded(Shard(kind, columns, postings, folded=True), np.concatenate(origins))

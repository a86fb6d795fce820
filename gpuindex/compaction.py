"""Compaction: neighbouring shards folded into one, without their dead ads.

The ads are put in the order of chosen fields, the advertiser first: ads that
share one share most features, so that their lists become runs, which cost few
bytes. The writer takes it a step at a time between batches, and queries never
wait: views go on reading the old shards. What changes meanwhile is the state by
slot only, so whatever died or got a new delivery state before the last step is
looked up again when the new shard takes the place of the old ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Int32, Int64, UInt8
from .columns import AdColumns
from .kernels.cpu.compact import fold, label, sort_by_label
from .postings import Postings
from .shard import Shard, ShardKind, shard_table

# A step takes some 20 ms with these, so that intake goes on between steps.
SLICE_POSTINGS = 500_000
SLICE_ADS = 65_536

NEIGHBOUR_SIZE = 4


def choose(shards: Sequence[Shard], deltas: int) -> int | None:
    """The first of the trailing shards to fold together, or None.

    Folds when `deltas` sealed tails have gathered, and takes a larger neighbour
    in as long as it is less than four times what is folded: so an ad is rewritten
    a logarithmic number of times as the index grows, and the number of shards
    stays logarithmic too. Twice would rewrite less, but every shard costs a query
    time, a light one most of all, and each has pointers of its own.

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
    while first > 0 and shards[first - 1].ads < NEIGHBOUR_SIZE * folded:
        first -= 1
        folded += shards[first].ads
    return first


@dataclass(frozen=True, eq=False)
class Folded:
    """The outcome of a compaction.

    Attributes:
        shard: the new shard of A slots.
        origins: [A] int64, for each new slot its old one, counted from the
            first slot of the first folded shard.
    """

    shard: Shard
    origins: Int64


class Compaction:
    """The folding of neighbouring shards, in the order of their ads' labels."""

    def __init__(
        self,
        first: int,
        placed: Sequence[tuple[int, Shard]],
        keeps: Sequence[UInt8],
        order_by: Sequence[Int32],
    ) -> None:
        """Plan a compaction.

        Args:
            first: number of the first shard.
            placed: first slots and shards.
            keeps: [ads] uint8 for each, 0 = dead.
            order_by: for each field that orders the ads, the most important one
                first, [values] int32, its features ascending.
        """
        self.first = first
        self._start = placed[0][0]
        self._shards = [shard for _, shard in placed]
        self._first_slots = [first_slot - self._start for first_slot, _ in placed]
        self._table = shard_table(list(zip(self._first_slots, self._shards, strict=True)))
        self._keep = np.zeros(self._first_slots[-1] + self._shards[-1].ads, np.uint8)
        for first_slot, keep in zip(self._first_slots, keeps, strict=True):
            self._keep[first_slot : first_slot + len(keep)] = keep
        self._order_by = order_by
        self._steps = self._all_steps()

    @property
    def shards(self) -> int:
        """How many shards are folded."""
        return len(self._shards)

    def step(self) -> Folded | None:
        """Do the next bounded piece; the outcome with the last one."""
        return next(self._steps)

    def _all_steps(self) -> Iterator[Folded | None]:
        origins = self._ordered()
        yield None
        moved = np.full(len(self._keep), -1, np.int32)
        moved[origins] = np.arange(len(origins), dtype=np.int32)
        pieces: list[tuple[Int32, Int32, UInt8, Int32]] = []
        feature = 0
        while feature >= 0:
            feature, *piece = fold(self._table, moved, len(origins), feature, SLICE_POSTINGS)
            pieces.append((piece[0], piece[1], piece[2], piece[3]))
            yield None
        columns = self._shards[0].columns.like(len(origins))
        for begin in range(0, len(origins), SLICE_ADS):
            self._gather(columns, origins, slice(begin, begin + SLICE_ADS))
            yield None
        postings = _joined(pieces)
        yield None
        kind: ShardKind = "base" if self.first == 0 else "delta"
        yield Folded(Shard(kind, columns, postings, folded=True), origins)

    def _ordered(self) -> Int64:
        """[A] int64, the kept slots in their new order."""
        slots = np.flatnonzero(self._keep).astype(np.int32)
        for features in reversed(self._order_by):
            labels = label(self._table, len(self._keep), features)
            slots = sort_by_label(slots, labels, len(features) + 1)
        return slots.astype(np.int64)

    def _gather(self, columns: AdColumns, origins: Int64, rows: slice) -> None:
        """Fill in some of the new columns' rows."""
        places = np.searchsorted(self._first_slots, origins[rows], side="right") - 1
        for number, shard in enumerate(self._shards):
            own = np.flatnonzero(places == number)
            slots = origins[rows][own] - self._first_slots[number]
            columns.fill(rows.start + own, shard.columns, slots)


def _joined(pieces: Sequence[tuple[Int32, Int32, UInt8, Int32]]) -> Postings:
    """Lists that came in slices: features, sizes in words, codes and data."""
    features, sizes, codes, data = (np.concatenate(each) for each in zip(*pieces, strict=True))
    starts = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=starts[1:])
    return Postings(features, starts, codes, data)

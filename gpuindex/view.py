"""Views: the index as of one publication, for any number of readers.

A view sees what was applied before its publication and nothing later, however
long it lives and whatever the writer does meanwhile. Reading takes no lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Float32, Int32, Int64, UInt8
from .columns import AdColumns
from .dictionary import FeatureDictionary
from .division import Found, SearchThreads, divided, merged
from .errors import InvalidQuery
from .kernels.cpu.dense import dense
from .kernels.cpu.score import NARROW_SHARE, mark, most_postings, score
from .kernels.cpu.shards import BLOCK_SLOTS, PAGE_SLOTS
from .kernels.cpu.states import ACTIVE, FUNDED
from .kernels.cpu.topk import topk
from .limits import within_limit
from .query import IntegerQuery, Query, to_integers
from .scratch import Scratch, own_scratch
from .shard import Shard, ShardKind
from .slots import SlotsView
from .tail import TailView
from .targeting import Audience, TargetingTable

LOWEST_SCORE = int(np.iinfo(np.int32).min)

# A limit that keeps most of what was found out is met with few, ever larger searches.
LIMITED_GROWTH = 4

_NO_MASK: UInt8 = np.zeros(0, np.uint8)
_EVERYONE: UInt8 = np.ones(1, np.uint8)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best ads of a search, best first; equal scores by lower ad id.

    Attributes:
        ad_ids: [n] int64.
        slots: [n] int32, for `gather` on the same view.
        scores: [n] int32; score * unit is the real score.
        unit: see scores.
        epoch: of the view.
    """

    ad_ids: Int64
    slots: Int32
    scores: Int32
    unit: float
    epoch: int

    def __len__(self) -> int:
        return len(self.ad_ids)

    def chosen(self, places: Int64) -> "Candidates":
        """Those at the given places, [m] int64."""
        return replace(
            self,
            ad_ids=self.ad_ids[places],
            slots=self.slots[places],
            scores=self.scores[places],
        )


@dataclass(frozen=True)
class AdState:
    """What a view knows of an ad.

    `eligible` is about the ad's own state; whether a request's audience or
    pacing draw suits it is the request's matter. `reasons` says why not:
    absent, paused, budget_spent, not_started, ended, paced_out.
    """

    present: bool
    version: int | None
    slot: int | None
    shard: ShardKind | None
    eligible: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class IndexView:
    """Shards in the order of their slots, then the tail.

    Attributes:
        epoch: of the publication.
        shards: S sealed shards.
        first_slots: [S] int64, each one's first slot, ascending.
        table: [S, FIELDS] int64, the shard table.
        tail: the tail as counted.
        slots: state by slot.
        features: the dictionary, which may go on to grow.
        feature_count: features that the view's ads may have.
        targeting: rule sets, which may go on to grow.
        targeting_count: rule sets that the view's ads may have.
    """

    epoch: int
    shards: tuple[Shard, ...]
    first_slots: Int64
    table: Int64
    tail: TailView
    slots: SlotsView
    features: FeatureDictionary
    feature_count: int
    targeting: TargetingTable
    targeting_count: int

    def search(
        self,
        query: Query,
        k: int,
        within: Int64 | None = None,
        threads: SearchThreads | None = None,
    ) -> Candidates:
        """The exact K best eligible ads, or the best that keep to the query's group limit.

        Args:
            query: what to look for.
            k: how many at most.
            within: [m] int64, only these ads; None for all.
            threads: to divide the work among, if there is enough of it.

        Raises:
            InvalidQuery: the query does not fit the index, or k < 1.
        """
        if k < 1:
            raise InvalidQuery(f"k is {k}; it must be at least 1")
        if query.group_limit is None:
            return self._best(query, k, within, threads)
        wanted = k
        while True:
            found = self._best(query, wanted, within, threads)
            # Taking ads in order, as long as their group has room, gives the best that the limit
            # allows; so what is missing can only come behind everything found so far.
            kept = np.flatnonzero(within_limit(self.groups(found.slots), query.group_limit))
            if len(kept) >= k or len(found) < wanted:
                return found.chosen(kept[:k])
            wanted *= LIMITED_GROWTH

    def search_batch(
        self, queries: Sequence[Query], k: int, within: Int64 | None = None
    ) -> list[Candidates]:
        """The answers to several queries, as `search` gives each of them.

        A CPU takes them one after the other: with the embeddings in its cache
        the product of 128 dimensions takes 3.2 ns an ad, from memory 3.9, so
        sharing what is read would gain less than a fifth of that part.
        """
        return [self.search(query, k, within) for query in queries]

    def _best(
        self, query: Query, k: int, within: Int64 | None, threads: SearchThreads | None
    ) -> Candidates:
        """The exact K best eligible ads, whatever their groups."""
        width = self.tail.columns.embeddings.shape[1]
        integers = to_integers(query, self.feature_count, width)
        k = max(1, min(k, self.slots.count))
        allowed, mask = self._allowed(query.audience), self._mask(query, within)
        work = partial(self._best_of, query, integers, k, allowed, mask)
        if threads is None or not self._divisible(query, integers):
            found = work((self.table, self.tail.ads))
        else:
            tables = divided(self.table, threads.count)
            tails = [*(0 for _ in tables[1:]), self.tail.ads]
            found = merged(threads.map(work, list(zip(tables, tails, strict=True))), k)
        return Candidates(
            found.ad_ids, found.slots, found.scores, unit=integers.unit, epoch=self.epoch
        )

    def gather(self, slots: Int32) -> tuple[Int64, Float32]:
        """Payload and bid of candidates.

        Args:
            slots: [n] int32, of a search on this view.

        Returns:
            [n, P] int64 and [n] float32.
        """
        payload: Int64 = self._column("payload", slots)
        return payload, self.slots.pool.states["bid"][self._page_places(slots)]

    def groups(self, slots: Int32) -> Int32:
        """[n] int32, the groups of ads at [n] int32 slots, negative for none."""
        groups: Int32 = self._column("groups", slots)
        return groups

    def find(self, ad_ids: Int64) -> Int64:
        """[m] int64, the slot of each ad in this view, or -1."""
        slots = np.full(len(ad_ids), -1, np.int64)
        for part in range(len(self.shards) + 1):
            source = self.tail if part == len(self.shards) else self.shards[part]
            local = source.find(ad_ids)
            candidate = np.where(local >= 0, local + self.part(part)[1], 0)
            seen = (local >= 0) & (self.slots.dead[candidate] > self.epoch)
            slots[seen] = candidate[seen]
        return slots

    def describe(self, ad_id: int, now_ms: int) -> AdState:
        """Whether an ad is here, where, and whether a request could get it."""
        slot = int(self.find(np.array([ad_id], np.int64))[0])
        if slot < 0:
            return AdState(False, None, None, None, False, ("absent",))
        part = self.part_of(slot)
        columns, first = self.part(part)
        state = self.slots.pool.states[self.slots.pages[slot // PAGE_SLOTS], slot % PAGE_SLOTS]
        failing = {
            "paused": not state["gate"] & ACTIVE,
            "budget_spent": not state["gate"] & FUNDED,
            "not_started": now_ms < state["start_ms"],
            "ended": now_ms >= state["end_ms"],
            "paced_out": state["pacing"] <= 0,
        }
        reasons = tuple(reason for reason, fails in failing.items() if fails)
        return AdState(
            present=True,
            version=int(columns.versions[slot - first]),
            slot=slot,
            shard="tail" if part == len(self.shards) else self.shards[part].kind,
            eligible=not reasons,
            reasons=reasons,
        )

    def part_of(self, slot: int) -> int:
        """The number of the part that holds a slot: a shard's, or behind them the tail's."""
        return int(np.searchsorted(self._all_firsts(), slot, side="right")) - 1

    def part(self, number: int) -> tuple[AdColumns, int]:
        """Columns and first slot of a shard, or of the tail behind them."""
        if number == len(self.shards):
            return self.tail.columns, self.tail.first_slot
        return self.shards[number].columns, int(self.first_slots[number])

    def counts(self) -> Mapping[ShardKind, int]:
        """Ads that this view sees, by kind of shard."""
        counts: dict[ShardKind, int] = {"base": 0, "delta": 0, "tail": 0}
        for first, shard in zip(self.first_slots, self.shards, strict=True):
            counts[shard.kind] += self._living(int(first), shard.ads)
        counts["tail"] = self._living(self.tail.first_slot, self.tail.ads)
        return counts

    def _divisible(self, query: Query, integers: IntegerQuery) -> bool:
        """Whether every slot is to be looked at, and there are several blocks of them."""
        if self.slots.count <= BLOCK_SLOTS:
            return False
        postings: int = most_postings(self.table, integers.features)
        return query.mode == "full" or postings >= self._narrow_limit(query)

    def _narrow_limit(self, query: Query) -> int:
        """How many postings take so long as to look at every slot."""
        return 0 if query.mode == "full" else self.slots.count // NARROW_SHARE

    def _best_of(
        self,
        query: Query,
        integers: IntegerQuery,
        k: int,
        allowed: UInt8,
        mask: UInt8,
        part: tuple[Int64, int],
    ) -> Found:
        """The best ads of a part of the slots.

        Args:
            query, integers, k: what to look for.
            allowed, mask: see the kernel `topk`.
            part: [S, FIELDS] int64, the part's shard table, and its tail ads.
        """
        table, tail_ads = part
        narrow_limit = self._narrow_limit(query) if table is self.table else 0
        full = query.mode == "full"
        scratch = own_scratch()
        scratch.fit(self.feature_count, self.slots.count, len(table), len(integers.features), k)
        touched = self._score(table, tail_ads, integers, narrow_limit, scratch, full=full)
        scores, ads, slots = np.empty(k, np.int32), np.empty(k, np.int64), np.empty(k, np.int32)
        tail = self.tail
        found = topk(
            table,
            tail.first_slot,
            tail_ads,
            tail.columns.ad_ids,
            tail.columns.targeting,
            scratch.scores if touched < 0 else scratch.zeros,
            scratch.touched,
            scratch.touched_bounds,
            touched,
            LOWEST_SCORE if full else 1,
            self.slots.dead,
            self.epoch,
            self.slots.pages,
            self.slots.pool.states,
            query.now_ms,
            query.signed_seed,
            allowed,
            mask,
            scratch.keys,
            scores,
            ads,
            slots,
        )
        return Found(scores[:found], ads[:found], slots[:found])

    def _score(
        self,
        table: Int64,
        tail_ads: int,
        integers: IntegerQuery,
        narrow_limit: int,
        scratch: Scratch,
        *,
        full: bool,
    ) -> int:
        tail = self.tail
        touched = score(
            table,
            tail.first_slot,
            tail_ads,
            tail.bounds,
            tail.features,
            tail.weights,
            integers.features,
            integers.weights,
            narrow_limit,
            scratch.weight_of,
            scratch.located,
            scratch.scores,
            scratch.zeros,
            scratch.touched,
            scratch.touched_bounds,
        )
        if full:
            dense(
                table,
                tail.first_slot,
                tail_ads,
                tail.columns.embeddings,
                integers.vector,
                integers.multiplier,
                integers.bias_factor,
                self.slots.pages,
                self.slots.pool.biases,
                scratch.scores,
            )
        return touched

    def _allowed(self, audience: Audience) -> UInt8:
        """[rule sets] uint8, 1 where the audience passes."""
        if self.targeting_count == 1:
            return _EVERYONE
        return self.targeting.evaluate(audience, self.targeting_count)

    def _mask(self, query: Query, within: Int64 | None) -> UInt8:
        """[N] uint8, 0 where a slot is out of question; [0] if none is."""
        if within is None and not query.filters and not len(query.excluded):
            return _NO_MASK
        mask = np.ones(self.slots.count, np.uint8)
        if within is not None:
            slots = self.find(within)
            mask[:] = 0
            mask[slots[slots >= 0]] = 1
        if len(query.excluded):
            slots = self.find(query.excluded)
            mask[slots[slots >= 0]] = 0
        for rule in query.filters:
            if rule.allow is not None:
                allowed = np.zeros(self.slots.count, np.uint8)
                self._mark(rule.field, rule.allow, 1, allowed)
                mask &= allowed
            self._mark(rule.field, rule.deny, 0, mask)
        return mask

    def _mark(self, field: str, values: frozenset[str], value: int, marks: UInt8) -> None:
        wanted = sorted(self.features.find(f"{field}={each}") for each in values)
        mark(
            self.table,
            self.tail.first_slot,
            self.tail.ads,
            self.tail.bounds,
            self.tail.features,
            np.array([number for number in wanted if number >= 0], np.int32),
            value,
            marks,
        )

    def _all_firsts(self) -> Int64:
        return np.append(self.first_slots, self.tail.first_slot)

    def _column(self, name: str, slots: Int32) -> NDArray[Any]:
        """[n, ...], the values of a column at [n] int32 slots of any shards."""
        own = getattr(self.tail.columns, name)
        values = np.empty((len(slots), *own.shape[1:]), own.dtype)
        parts = np.searchsorted(self._all_firsts(), slots, side="right") - 1
        for part in np.unique(parts):
            chosen = parts == part
            columns, first = self.part(int(part))
            values[chosen] = getattr(columns, name)[slots[chosen] - first]
        return values

    def _page_places(self, slots: Int32) -> tuple[Int32, Int32]:
        return self.slots.pages[slots // PAGE_SLOTS], slots % PAGE_SLOTS

    def _living(self, first_slot: int, ads: int) -> int:
        return int(np.count_nonzero(self.slots.dead[first_slot : first_slot + ads] > self.epoch))

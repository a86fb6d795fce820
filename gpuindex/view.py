"""Views: the index as of one publication, for any number of readers.

A view sees what was applied before its publication and nothing later, however
long it lives and whatever the writer does meanwhile. Reading takes no lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Float32, Int32, Int64, UInt8
from .columns import AdColumns
from .dictionary import FeatureDictionary
from .division import Found, SearchThreads, divided, merged
from .errors import InvalidQuery
from .kernels.cpu.dense import dense
from .kernels.cpu.mark import mark
from .kernels.cpu.score import NARROW_SHARE, most_postings, score
from .kernels.cpu.shards import BLOCK_SLOTS, PAGE_SLOTS
from .kernels.cpu.states import ACTIVE, FUNDED
from .kernels.cpu.topk import topk
from .limits import within_limit
from .query import Query, to_integers
from .question import UNRESTRICTED, Question, Restrictions
from .scratch import Scratch, own_scratch
from .shard import Shard, ShardKind
from .slots import SlotsView
from .tail import TailView
from .targeting import Audience, TargetingTable

if TYPE_CHECKING:
    from .device.view import DeviceView

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
        device: what a device holds of all this, if one is to search it.
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
    device: "DeviceView | None" = None

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
            threads: to divide the CPU's work among, if there is enough of it.

        Raises:
            InvalidQuery: the query does not fit the index, or k < 1.
        """
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

        A device answers all that know no group limit before the host waits for
        the first. A CPU takes them one after the other: with the embeddings in
        its cache the product of 128 dimensions takes 3.2 ns an ad, from memory
        3.9, so sharing what is read would gain less than a fifth of that part.
        """
        if self.device is None or any(query.group_limit is not None for query in queries):
            return [self.search(query, k, within) for query in queries]
        questions = [self._question(query, k, within) for query in queries]
        founds = self.device.best(questions) if questions else []
        return list(map(self._candidates, questions, founds))

    def _best(
        self, query: Query, k: int, within: Int64 | None, threads: SearchThreads | None
    ) -> Candidates:
        """The exact K best eligible ads, whatever their groups."""
        question = self._question(query, k, within)
        if self.device is not None:
            (found,) = self.device.best([question])
            return self._candidates(question, found)
        work = partial(self._best_of, question, self._mask(question.restrictions))
        if threads is None or not self._divisible(question):
            found = work((self.table, self.tail.ads))
        else:
            tables = divided(self.table, threads.count)
            tails = [*(0 for _ in tables[1:]), self.tail.ads]
            found = merged(threads.map(work, list(zip(tables, tails, strict=True))), question.k)
        return self._candidates(question, found)

    def _candidates(self, question: Question, found: Found) -> Candidates:
        return Candidates(
            found.ad_ids, found.slots, found.scores, unit=question.integers.unit, epoch=self.epoch
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

    def _question(self, query: Query, k: int, within: Int64 | None) -> Question:
        """A query in numbers of this view, group limits apart."""
        if k < 1:
            raise InvalidQuery(f"k is {k}; it must be at least 1")
        width = self.tail.columns.embeddings.shape[1]
        return Question(
            integers=to_integers(query, self.feature_count, width),
            full=query.mode == "full",
            k=min(k, max(1, self.slots.count)),
            now_ms=query.now_ms,
            seed=query.signed_seed,
            allowed=self._allowed(query.audience),
            restrictions=self._restrictions(query, within),
        )

    def _restrictions(self, query: Query, within: Int64 | None) -> Restrictions:
        if within is None and not query.filters and not len(query.excluded):
            return UNRESTRICTED
        return Restrictions(
            within=None if within is None else self._present(within),
            excluded=self._present(query.excluded),
            rules=tuple(
                (
                    None if rule.allow is None else self._numbers(rule.field, rule.allow),
                    self._numbers(rule.field, rule.deny),
                )
                for rule in query.filters
            ),
        )

    def _divisible(self, question: Question) -> bool:
        """Whether every slot is to be looked at, and there are several blocks of them."""
        if self.slots.count <= BLOCK_SLOTS:
            return False
        postings: int = most_postings(self.table, question.integers.features)
        return question.full or postings >= self._narrow_limit(question)

    def _narrow_limit(self, question: Question) -> int:
        """How many postings take so long as to look at every slot."""
        return 0 if question.full else self.slots.count // NARROW_SHARE

    def _best_of(self, question: Question, mask: UInt8, part: tuple[Int64, int]) -> Found:
        """The best ads of a part of the slots.

        Args:
            question: what to look for.
            mask: see the kernel `topk`.
            part: [S, FIELDS] int64, the part's shard table, and its tail ads.
        """
        table, tail_ads = part
        narrow_limit = self._narrow_limit(question) if table is self.table else 0
        integers, k = question.integers, question.k
        scratch = own_scratch()
        scratch.fit(self.feature_count, self.slots.count, len(table), len(integers.features), k)
        touched = self._score(table, tail_ads, question, narrow_limit, scratch)
        scores, ads, slots = np.empty(k, np.int32), np.empty(k, np.int64), np.empty(k, np.int32)
        tail = self.tail
        found = topk(
            table,
            tail.first_slot,
            tail_ads,
            tail.columns.ad_ids,
            tail.columns.targeting,
            scratch.scores,
            scratch.touched,
            touched,
            question.least,
            self.slots.dead,
            self.epoch,
            self.slots.pages,
            self.slots.pool.states,
            question.now_ms,
            question.seed,
            question.allowed,
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
        question: Question,
        narrow_limit: int,
        scratch: Scratch,
    ) -> int:
        tail, integers = self.tail, question.integers
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
            scratch.touched,
            scratch.block_sums,
        )
        if question.full:
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

    def _mask(self, restrictions: Restrictions) -> UInt8:
        """See `Restrictions.mask`."""
        if restrictions is UNRESTRICTED:
            return _NO_MASK
        tail = self.tail
        lists = (self.table, tail.first_slot, tail.ads, tail.bounds, tail.features)
        mask: UInt8 = restrictions.mask(self.slots.count, np, partial(mark, *lists))
        return mask

    def _present(self, ad_ids: Int64) -> Int64:
        """The slots of those of some ads that are here."""
        if not len(ad_ids):
            return ad_ids
        slots = self.find(ad_ids)
        return slots[slots >= 0]

    def _numbers(self, field: str, values: frozenset[str]) -> Int32:
        """[n] int32, the features of a field with some values, ascending."""
        numbers = sorted(self.features.find(f"{field}={each}") for each in values)
        return np.array([number for number in numbers if number >= 0], np.int32)

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

"""The index: one writer, views for everybody else.

One thread applies, publishes and maintains; any thread may read `view` and
search it. Applied is not yet visible: a publication makes everything applied
before it visible at once, so an updated ad is never seen twice nor missing.
"""

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Int64, UInt8, grown, growth_bytes
from .batch import AdBatch, Applied, DeliveryBatch
from .columns import AdColumns
from .compaction import Compaction, Folded, choose
from .dictionary import FeatureDictionary
from .directory import AdDirectory
from .errors import MemoryBudgetExceeded
from .kernels.cpu.admit import SKIPPED, UPSERTED
from .settings import IndexSettings
from .shard import Shard, shard_table
from .slots import NEVER, Slots, aligned
from .tail import Tail
from .targeting import TargetingTable
from .view import IndexView

if TYPE_CHECKING:
    from .device.mirror import Mirror

# Deleted ads' versions are looked through for expired ones this many times
# within the time for which they are remembered.
FORGET_CHECKS = 100

# Without room, everything is folded for this share of dead ads: less is not worth the rewriting.
RECLAIM_SHARE = 0.05


def wall_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Index:
    """Shards, tail, state by slot and directory, in the hands of their writer.

    Attributes:
        settings: as given.
        features: the dictionary; the writer interns.
        epoch: of the last publication.
        seals, compactions: how many there were.
    """

    def __init__(self, settings: IndexSettings, clock: Callable[[], int] = wall_ms) -> None:
        """An empty index, published.

        Args:
            settings: widths and sizes.
            clock: epoch milliseconds, for how long deletions are remembered.
        """
        self.settings = settings
        self.features = FeatureDictionary()
        self.targeting = TargetingTable()
        self.directory = AdDirectory()
        self.slots = Slots(logged=settings.device != "cpu")
        self.sealed: list[tuple[int, Shard]] = []
        self.tail = self._new_tail(0)
        self.epoch = 0
        self.seals = 0
        self.compactions = 0
        self._crowded = False
        self._clock = clock
        self._forget_due_ms = clock()
        self._compaction: Compaction | None = None
        self._table = shard_table([])
        self._views: list[tuple[int, weakref.ref[IndexView]]] = []
        self._stamps: Int64 = np.zeros(1_024, np.int64)
        self._stamp = 1
        self._mirror = _mirror(settings)
        self.view = self.publish()

    def apply(self, batch: AdBatch) -> Applied:
        """Apply upserts and deletes; visible from the next publication on.

        Raises:
            InvalidBatch: arrays that do not fit; nothing is applied.
            MemoryBudgetExceeded: it would pass the budget; nothing is applied.
        """
        batch.check(self.settings.embedding_width, self.settings.payload_width, len(self.features))
        if self._limited:
            self._afford(*self._ads_growth_bytes(batch))
        rows = self.directory.rows(batch.ad_ids)
        outcomes, born, dying = self.directory.admit(
            batch, rows, self._clock(), self.tail.next_slot
        )
        upserted = np.flatnonzero(outcomes == UPSERTED)
        targeting = self.targeting.intern([batch.targeting[b] for b in upserted.tolist()])
        self._stamps = grown(self._stamps, len(self._stamps), len(self.features), 0)
        self._stamp = self.tail.append(
            batch, outcomes, batch.versions[upserted], targeting, self._stamps, self._stamp
        )
        self.slots.extend(self.tail.next_slot)
        self.slots.deliver(born, rows[upserted], self.directory, self.epoch + 1, unseen=True)
        self.slots.kill(dying, self.epoch + 1)
        skipped = int(np.count_nonzero(outcomes == SKIPPED))
        return Applied(len(batch) - skipped, skipped)

    def apply_delivery(self, batch: DeliveryBatch) -> Applied:
        """Apply delivery states; visible from the next publication on.

        Raises:
            InvalidBatch: columns that do not fit; nothing is applied.
            MemoryBudgetExceeded: it would pass the budget; nothing is applied.
        """
        batch.check()
        if self._limited:
            self._afford(
                self.directory.growth_bytes(batch.ad_ids),
                self.slots.growth_bytes(0, self.directory.living(batch.ad_ids)),
            )
        rows = self.directory.rows(batch.ad_ids)
        news = rows[self.directory.deliver(batch, rows)]
        living = news[self.directory.slots[news] >= 0]
        self.slots.deliver(
            self.directory.slots[living], living, self.directory, self.epoch + 1, unseen=False
        )
        return Applied(len(news), len(batch) - len(news))

    def publish(self) -> IndexView:
        """Make everything applied so far visible, atomically, as a new view."""
        self.epoch += 1
        slots, feature_count = self.slots.publish(), len(self.features)
        device = None
        if self._mirror is not None:
            device = self._mirror.publish(self.epoch, self.sealed, self.tail, slots, feature_count)
        view = IndexView(
            epoch=self.epoch,
            shards=tuple(shard for _, shard in self.sealed),
            first_slots=np.array([first for first, _ in self.sealed], np.int64),
            table=self._table,
            tail=self.tail.view(),
            slots=slots,
            features=self.features,
            feature_count=feature_count,
            targeting=self.targeting,
            targeting_count=len(self.targeting),
            device=device,
        )
        self._views.append((self.epoch, weakref.ref(view)))
        self.view = view
        self._views = [(epoch, held) for epoch, held in self._views if held() is not None]
        self.slots.reclaim(self._views[0][0])
        return view

    def maintain(self) -> bool:
        """Do one bounded piece of tidying; whether there was any to do."""
        self._forget_deleted()
        if self.tail.ads >= self.settings.seal_ads:
            self.seal()
            return True
        if self._compaction is None:
            first = choose([shard for _, shard in self.sealed], self.settings.compact_deltas)
            if first is None and self._reclaimable():
                self.seal()
                first = 0
            self._crowded = False
            if first is None:
                return False
            self.start_compaction(first)
            return True
        folded = self._compaction.step()
        if folded is not None:
            self._switch(self._compaction, folded)
            self._compaction = None
        return True

    def seal(self) -> None:
        """Turn the tail into a delta shard, and begin another one."""
        tail = self.tail
        if tail.ads == 0:
            return
        shard = tail.sealed(self._keep(tail.first_slot, tail.ads), len(self.features))
        self.place(shard)
        self.seals += 1

    def place(self, shard: Shard) -> None:
        """Put a sealed shard where the tail is, and begin another tail behind."""
        first_slot = self.tail.first_slot
        self.slots.extend(first_slot + shard.ads)
        self.sealed.append((first_slot, shard))
        self._table = shard_table(self.sealed)
        self.tail = self._new_tail(aligned(first_slot + shard.ads))

    def restore_delivery(self) -> None:
        """Give every living ad's slot the delivery state of the directory."""
        rows = np.flatnonzero(self.directory.slots[: self.directory.count] >= 0)
        self.slots.deliver(
            self.directory.slots[rows],
            rows.astype(np.int32),
            self.directory,
            self.epoch + 1,
            unseen=True,
        )

    def start_compaction(self, first: int) -> None:
        """Begin to fold the sealed shards from the given one on, if there are any."""
        placed = self.sealed[first:]
        if not placed:
            return
        keeps = [self._keep(first_slot, shard.ads) for first_slot, shard in placed]
        order_by = [
            np.array(self.features.numbers(field), np.int32) for field in self.settings.order_fields
        ]
        self._compaction = Compaction(first, placed, keeps, order_by)

    @property
    def _limited(self) -> bool:
        """Whether anything limits how much memory may be taken."""
        return self.settings.memory_budget_bytes is not None or self._mirror is not None

    @property
    def compacting(self) -> bool:
        """Whether a compaction is under way."""
        return self._compaction is not None

    def memory(self) -> dict[str, int]:
        """Bytes by part; those of a device have names that say so."""
        device = {} if self._mirror is None else self._mirror.memory()
        return {**self._host_memory(), **device}

    def _host_memory(self) -> dict[str, int]:
        return {
            "base": sum(s.memory_bytes() for _, s in self.sealed if s.kind == "base"),
            "deltas": sum(s.memory_bytes() for _, s in self.sealed if s.kind == "delta"),
            "tail": self.tail.memory_bytes(),
            "slots": self.slots.memory_bytes(),
            "directory": self.directory.memory_bytes(),
            "dictionary": self.features.memory_bytes() + self._stamps.nbytes,
            "targeting": self.targeting.memory_bytes(),
        }

    def _switch(self, compaction: Compaction, folded: Folded) -> None:
        """Put the folded shard in the place of those it was made of."""
        behind = compaction.first + compaction.shards
        start = self.sealed[compaction.first][0]
        end = self.sealed[behind][0] if behind < len(self.sealed) else self.tail.first_slot
        dead = self.slots.dead[start + folded.origins]
        shift = self.slots.replace(start, end, dead, self.epoch + 1)
        moved = self.directory.slots[: self.directory.count]
        moved[moved >= end] += shift
        living = np.flatnonzero(dead == NEVER)
        rows = self.directory.find(folded.shard.columns.ad_ids[living])
        new_slots = (start + living).astype(np.int32)
        self.directory.slots[rows] = new_slots
        self.slots.deliver(new_slots, rows, self.directory, self.epoch + 1, unseen=True)
        later = [(first + shift, shard) for first, shard in self.sealed[behind:]]
        replaced = [(start, folded.shard)] if folded.shard.ads else []
        self.sealed[compaction.first :] = replaced + later
        self.tail.first_slot += shift
        self._table = shard_table(self.sealed)
        self.compactions += 1

    def _keep(self, first_slot: int, ads: int) -> UInt8:
        living: UInt8 = (self.slots.dead[first_slot : first_slot + ads] == NEVER).view(np.uint8)
        return living

    def _new_tail(self, first_slot: int) -> Tail:
        # Half as much again as is sealed, since batches overshoot.
        capacity = self.settings.seal_ads + self.settings.seal_ads // 2
        columns = AdColumns.empty(
            capacity, self.settings.embedding_width, self.settings.payload_width
        )
        return Tail(first_slot, capacity, columns)

    def _ads_growth_bytes(self, batch: AdBatch) -> tuple[int, int]:
        """The most that a batch adds, now and when the tail is sealed.

        Returns:
            Bytes that only the host takes, and bytes that a device takes as well.
        """
        upserts = len(batch) - int(np.count_nonzero(batch.deleted))
        growth = self.directory.growth_bytes(batch.ad_ids)
        if not upserts:
            return growth, 0
        features = len(batch.feature_ids)
        growth += self.targeting.growth_bytes(batch.targeting)
        growth += growth_bytes(self._stamps, len(self.features))
        shared = (
            self.tail.growth_bytes(upserts, features)
            + self.tail.sealed_bytes(upserts, features)
            + self.slots.growth_bytes(self.tail.next_slot + upserts, 0)
        )
        return growth, shared

    def _afford(self, growth: int, shared: int) -> None:
        """Refuse a growth that does not fit; what needs no room is always taken.

        Args:
            growth, shared: see `_ads_growth_bytes`.
        """
        if self._mirror is not None and shared:
            try:
                self._mirror.afford(shared)
            except MemoryBudgetExceeded:
                self._crowded = True
                raise
        budget = self.settings.memory_budget_bytes
        growth += shared
        used = sum(self._host_memory().values())
        if budget is not None and growth and used + growth > budget:
            self._crowded = True
            raise MemoryBudgetExceeded(
                f"the index takes {used} bytes and needs up to {growth} more, its budget is "
                f"{budget}; raise memory_budget_bytes, or delete ads before more are added"
            )

    def _reclaimable(self) -> bool:
        """Whether dead ads hold memory that a batch was refused for, and enough to fold."""
        if not self._crowded:
            return False
        dead = np.count_nonzero(self.slots.dead[: self.slots.count] != NEVER)
        return 0 < RECLAIM_SHARE * self.directory.count <= int(dead)

    def _forget_deleted(self) -> None:
        now_ms = self._clock()
        if now_ms < self._forget_due_ms:
            return
        memory_ms = self.settings.deleted_memory_ms
        self._forget_due_ms = now_ms + memory_ms // FORGET_CHECKS
        self.directory = self.directory.without_deleted(now_ms - memory_ms)


def _mirror(settings: IndexSettings) -> "Mirror | None":
    """What keeps a device up to date, if one is to search."""
    if settings.device == "cpu":
        return None
    # Numba's CUDA is a second compiler, and may not even be installed.
    from .device.mirror import Mirror

    return Mirror(settings.device_memory_budget_bytes)

"""Mutable state by slot: when it died, and its ad's delivery state.

Dead epochs are written in place: a view at epoch e sees a slot while e < dead,
so a death at a later epoch does not concern it. Delivery states live in pages;
a page that a published view may hold is never written, but replaced by a copy
in the next view's page table, so that a running query sees one state of each
ad throughout. Replaced pages are used again when no view can hold them.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Float32, Int32, Int64, UInt8, grown, growth_bytes
from .directory import AdDirectory
from .kernels.cpu.deliver import deliver
from .kernels.cpu.shards import PAGE_SLOTS
from .kernels.cpu.states import STATE

NEVER = np.iinfo(np.int64).max


def aligned(slots: int) -> int:
    """The number of slots rounded up to whole pages."""
    return -(-slots // PAGE_SLOTS) * PAGE_SLOTS


@dataclass(frozen=True, eq=False)
class Pages:
    """The pool of pages, P of them, a row per page and a column per slot.

    Attributes:
        states: [P, PAGE_SLOTS] STATE.
        biases: [P, PAGE_SLOTS] float32.
    """

    states: NDArray[np.void]
    biases: Float32

    @staticmethod
    def empty(pages: int) -> "Pages":
        """A pool of pages whose slots no request can get."""
        shape = (pages, PAGE_SLOTS)
        return Pages(np.zeros(shape, STATE), np.zeros(shape, np.float32))

    def grown(self, used: int, needed: int) -> "Pages":
        """A pool with room for `needed` pages; this one stays as it is."""
        return Pages(grown(self.states, used, needed), grown(self.biases, used, needed))

    def memory_bytes(self) -> int:
        """Bytes of both arrays."""
        return self.states.nbytes + self.biases.nbytes


@dataclass(frozen=True, eq=False)
class SlotsView:
    """The slots' state as one view sees it; N slots, N a multiple of a page.

    Attributes:
        count: N.
        dead: [>= N] int64, the epoch from which a slot is not seen.
        pages: [N / PAGE_SLOTS] int32, the pool page of each run of slots.
        pool: the pages.
        dying: if changes are logged, slots that died since the view before, unless
            `dead` is a new array.
        written: likewise pool pages that states were written to, perhaps repeatedly. What
            others hold does not matter: their slots have no ads, or dead ones.
    """

    count: int
    dead: Int64
    pages: Int32
    pool: Pages
    dying: tuple[Int32, ...]
    written: tuple[Int32, ...]


class Slots:
    """The writer's side of the slots' state."""

    def __init__(self, *, logged: bool = False) -> None:
        """No slots yet.

        Args:
            logged: whether publications tell what changed.
        """
        self.count = 0
        self.dead: Int64 = np.full(PAGE_SLOTS, NEVER, np.int64)
        self._pages: Int32 = np.zeros(16, np.int32)
        self._pool = Pages.empty(16)
        self._fresh: UInt8 = np.zeros(16, np.uint8)
        self._free: Int32 = np.arange(16, dtype=np.int32)
        self._retired: deque[tuple[int, Int32]] = deque()
        self._published: Int32 | None = None
        self._logged = logged
        self._dying: list[Int32] = []
        self._written: list[Int32] = []

    def extend(self, slots: int) -> None:
        """Have state for at least this many slots, new ones never dying."""
        needed = aligned(slots)
        if needed <= self.count:
            return
        self.dead = grown(self.dead, self.count, needed, NEVER)
        runs, needed_runs = self.count // PAGE_SLOTS, needed // PAGE_SLOTS
        self._pages = grown(self._pages, runs, needed_runs)
        self._pages[runs:needed_runs] = self._take(needed_runs - runs)
        self._published = None
        self.count = needed

    def kill(self, slots: Int32, epoch: int) -> None:
        """Hide slots from views of this epoch and later."""
        self.dead[slots] = epoch
        if self._logged:
            self._dying.append(slots)

    def deliver(
        self, slots: Int32, rows: Int32, directory: AdDirectory, epoch: int, *, unseen: bool
    ) -> None:
        """Copy delivery states from directory rows to slots.

        Args:
            slots: [W] int32.
            rows: [W] int32.
            directory: where the states are.
            epoch: of the next publication, from which replaced pages are unused.
            unseen: no view sees the slots yet.
        """
        # No page is copied twice before the next publication.
        self._reserve(0 if unseen else min(len(slots), self.count // PAGE_SLOTS))
        retired = np.empty(len(slots), np.int32)
        pool = self._pool
        taken = deliver(
            slots,
            rows,
            unseen,
            self._pages,
            self._fresh,
            self._free,
            retired,
            pool.states,
            pool.biases,
            directory.delivery,
        )
        if self._logged:
            self._written.append(self._pages[slots // PAGE_SLOTS])
        if taken:
            self._free = self._free[taken:]
            self._retired.append((epoch, retired[:taken]))
            self._published = None

    def replace(self, first: int, end: int, dead: Int64, epoch: int) -> int:
        """Put new slots in the place of old ones; slots behind them move.

        Args:
            first, end: the old slots, page aligned.
            dead: [A] int64, the new slots' dead epochs.
            epoch: of the next publication, from which the old pages are unused.

        Returns:
            How far the slots behind moved; negative if to lower numbers.
        """
        size = aligned(len(dead))
        padding = np.full(size - len(dead), NEVER, np.int64)
        self.dead = np.concatenate((self.dead[:first], dead, padding, self.dead[end : self.count]))
        head, tail = self._pages[: first // PAGE_SLOTS], self._pages[end // PAGE_SLOTS :]
        old = self._pages[first // PAGE_SLOTS : end // PAGE_SLOTS]
        self._retired.append((epoch, old.copy()))
        self._pages = np.concatenate((head, self._take(size // PAGE_SLOTS), tail))
        self._dying = []
        self._published = None
        shift = size - (end - first)
        self.count += shift
        return shift

    def publish(self) -> SlotsView:
        """The state as it is now, which later writes will leave alone."""
        if self._published is None:
            self._published = self._pages[: self.count // PAGE_SLOTS].copy()
        self._fresh[:] = 0
        changes = tuple(self._dying), tuple(self._written)
        self._dying, self._written = [], []
        return SlotsView(self.count, self.dead, self._published, self._pool, *changes)

    def reclaim(self, oldest_epoch: int) -> None:
        """Use pages again that only views before this epoch could hold."""
        freed = []
        while self._retired and self._retired[0][0] <= oldest_epoch:
            freed.append(self._retired.popleft()[1])
        if freed:
            self._free = np.concatenate((self._free, *freed))

    def growth_bytes(self, slots: int, writes: int) -> int:
        """The most that the state grows by.

        Args:
            slots: as in `extend`.
            writes: delivery states for slots that a view may see.
        """
        needed = max(aligned(slots), self.count)
        runs = self.count // PAGE_SLOTS
        new_runs = needed // PAGE_SLOTS - runs
        pages = new_runs + min(writes, runs)
        pool = len(self._pool.states)
        growth = growth_bytes(self.dead, needed) + growth_bytes(self._pages, runs + new_runs)
        if pages > len(self._free):
            new_pages = max(pool, pages - len(self._free))
            page_bytes = PAGE_SLOTS * (STATE.itemsize + self._pool.biases.itemsize)
            growth += new_pages * (page_bytes + self._fresh.itemsize + self._free.itemsize)
        return growth

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        own = self.dead.nbytes + self._pages.nbytes + self._fresh.nbytes + self._free.nbytes
        return own + self._pool.memory_bytes()

    def _take(self, pages: int) -> Int32:
        """[pages] int32, free pages of which no slot can be got yet."""
        self._reserve(pages)
        taken, self._free = self._free[:pages], self._free[pages:]
        self._pool.states["gate"][taken] = 0
        self._fresh[taken] = 1
        return taken

    def _reserve(self, pages: int) -> None:
        used = len(self._pool.states)
        if pages <= len(self._free):
            return
        needed = used + pages - len(self._free)
        self._pool = self._pool.grown(used, needed)
        self._fresh = grown(self._fresh, used, needed, 0)
        new = np.arange(used, len(self._pool.states), dtype=np.int32)
        self._free = np.concatenate((self._free, new))

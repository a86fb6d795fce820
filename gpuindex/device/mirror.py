"""The writer's side of an index on a device: what of it is there, and how it gets there.

Sealed shards are copied once, when they are first published, and go with the
last view that holds them. The tail's arrays are appended to. Of the slots' state
a publication copies what changed: the slots that died and the pages that were
written. Nothing that an older view sees is overwritten, which the host's arrays
promise, so a view on the device is as stable as one on the host.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Int32, Int64
from ..errors import MemoryBudgetExceeded
from ..kernels.cpu import shards
from ..kernels.cpu.states import STATE
from ..kernels.cuda.device import current
from ..shard import Shard, shard_table
from ..slots import SlotsView
from ..tail import Tail
from .memory import Follower, octets, scatter, total_bytes, uploaded
from .view import DeviceShard, DeviceSlots, DeviceTail, DeviceView, Searches

# Features of a query for which there must be room from the beginning; a larger one raises it.
EXPECTED_FEATURES = 256

TAIL_ARRAYS = ("bounds", "features", "weights", "ad_ids", "targeting", "embeddings")


class Mirror:
    """What the device holds of an index, in the hands of the index's writer."""

    def __init__(self, budget_bytes: int | None) -> None:
        """Hold nothing yet.

        Args:
            budget_bytes: most memory of the device; None for what it has.
        """
        self._budget_bytes = budget_bytes
        self._shards: dict[Shard, DeviceShard] = {}
        self._table = shard_table([])
        self._device_table: Any = None
        self._tail: Tail | None = None
        self._followers: dict[str, Follower] = {}
        self._slots = _SlotsMirror()
        self._searches = Searches()

    def publish(
        self,
        epoch: int,
        placed: Sequence[tuple[int, Shard]],
        tail: Tail,
        slots: SlotsView,
        feature_count: int,
    ) -> DeviceView:
        """Bring the device up to date.

        Args:
            epoch: of the publication.
            placed: first slots and shards.
            tail: as it is now.
            slots: the next publication after the one that was given last.
            feature_count: features in the dictionary.
        """
        with current().in_order():
            # Those that are gone stay with the views that hold them.
            self._shards = {
                shard: self._shards.get(shard) or _uploaded_shard(shard) for _, shard in placed
            }
            rows = [(first, self._shards[shard].row) for first, shard in placed]
            self._searches.expect(EXPECTED_FEATURES, slots.count, len(placed), feature_count)
            return DeviceView(
                epoch=epoch,
                shards=tuple(self._shards.values()),
                table=self._follow_table(rows),
                tail=self._follow_tail(tail),
                slots=self._slots.follow(slots),
                feature_count=feature_count,
                searches=self._searches,
            )

    def afford(self, growth: int) -> None:
        """Refuse a growth for which the device has no room.

        What a fold makes stands beside what it was made of until the last view of
        that is gone, and so does a longer array beside a shorter one. So as much
        again has to fit, and once more the slots' state, which a fold lengthens.

        Args:
            growth: bytes, the most that it may be.

        Raises:
            MemoryBudgetExceeded: it would pass the budget, or what is free.
        """
        parts = self.memory()
        search = parts.pop("device_search")
        held = sum(parts.values())
        limit = held + current().free_bytes()
        if self._budget_bytes is not None:
            limit = min(limit, self._budget_bytes)
        needed = 2 * (held + growth) + parts["device_slots"] + search
        if needed > limit:
            raise MemoryBudgetExceeded(
                f"the index holds {held} bytes of the device and needs up to {growth} more, and as "
                f"much again while shards are folded; it may have {limit}; raise "
                "device_memory_budget_bytes or free the device, or delete ads before more are added"
            )

    def memory(self) -> dict[str, int]:
        """Bytes of the device by part."""
        return {
            "device_shards": sum(total_bytes(each.arrays) for each in self._shards.values()),
            "device_tail": total_bytes(each.rows for each in self._followers.values()),
            "device_slots": self._slots.memory_bytes(),
            "device_search": self._searches.most_bytes,
        }

    def _follow_table(self, placed: list[tuple[int, Int64]]) -> Any:
        """[S, FIELDS] on the device, the shard table with the device's addresses."""
        table = np.zeros((len(placed), shards.FIELDS), np.int64)
        for row, (first_slot, own) in zip(table, placed, strict=True):
            row[:] = own
            row[shards.FIRST_SLOT] = first_slot
        if self._device_table is None or not np.array_equal(table, self._table):
            self._table, self._device_table = table, current().put(table)
        return self._device_table

    def _follow_tail(self, tail: Tail) -> DeviceTail:
        if tail is not self._tail:
            self._tail = tail
            self._followers = {name: Follower() for name in TAIL_ARRAYS}
        view, followers = tail.view(), self._followers
        ads, columns, features = view.ads, view.columns, int(view.bounds[view.ads])
        return DeviceTail(
            first_slot=view.first_slot,
            ads=ads,
            bounds=followers["bounds"].follow(view.bounds, ads + 1),
            features=followers["features"].follow(view.features, features),
            weights=followers["weights"].follow(view.weights, features),
            ad_ids=followers["ad_ids"].follow(columns.ad_ids, ads),
            targeting=followers["targeting"].follow(columns.targeting, ads),
            embeddings=followers["embeddings"].follow(columns.embeddings, ads),
        )


class _SlotsMirror:
    """The slots' state: replaced where the host's arrays were, else written in place."""

    def __init__(self) -> None:
        self._host: SlotsView | None = None
        self._dead: Any = None
        self._pages: Any = None
        self._states = Follower()
        self._biases = Follower()

    def follow(self, slots: SlotsView) -> DeviceSlots:
        """The next publication's state."""
        before, self._host = self._host, slots
        if before is None or slots.dead is not before.dead:
            self._dead = uploaded(slots.dead)
        else:
            dying = _joined(slots.dying)
            scatter(dying, slots.dead[dying], self._dead)
        if before is None or slots.pages is not before.pages:
            self._pages = uploaded(slots.pages)
        # A page that a view sees is written only where that view does not look.
        written = np.unique(_joined(slots.written))
        for follower, rows in (
            (self._states, octets(slots.pool.states)),
            (self._biases, slots.pool.biases),
        ):
            follower.fit(rows)
            scatter(written, rows[written], follower.rows)
        states = current().records(self._states.rows, STATE)
        return DeviceSlots(slots.count, self._dead, self._pages, states, self._biases.rows)

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        return total_bytes((self._dead, self._pages, self._states.rows, self._biases.rows))


def _joined(places: Sequence[Int32]) -> Int32:
    return np.concatenate([*places, np.zeros(0, np.int32)])


def _uploaded_shard(shard: Shard) -> DeviceShard:
    """A copy of a shard.

    Raises:
        MemoryBudgetExceeded: the device has no room, as for a snapshot of a larger one.
    """
    size, free = total_bytes(shard.table_arrays().values()), current().free_bytes()
    if size > free:
        raise MemoryBudgetExceeded(
            f"a shard takes {size} bytes of the device, which has {free} left; "
            'free the device, or set index.device to "cpu"'
        )
    row = shard.table_row(0)
    arrays = []
    for field, array in shard.table_arrays().items():
        arrays.append(uploaded(array))
        row[field] = current().address(arrays[-1])
    return DeviceShard(row, tuple(arrays))

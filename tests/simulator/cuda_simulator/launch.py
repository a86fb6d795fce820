"""CUDA threads on a CPU, one instruction at a time, as strict as the hardware is lax.

Runs the Python body of a Numba-CUDA kernel with one greenlet per thread. What a
GPU lets pass in silence is an error here: accesses that no barrier orders, a
barrier that not all threads reach, a warp operation whose mask names an absent
lane, an index out of bounds, a store that does not fit its type, an address that
belongs to no array. Shared and local memory begin poisoned. Integers and floats
have Numba's types, and the order in which threads run is chosen by a seed.

Limits: blocks run one after the other, there are no streams and no grid-wide
barriers, and only the intrinsics that the kernels use exist.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from greenlet import getcurrent, greenlet

from .binding import Binder
from .errors import RaceError
from .intrinsics import Cuda
from .memory import SimulatedArray
from .scalars import caster
from .threads import WARP_LANES, Block, Dim3, Thread, Wait


@dataclass(frozen=True)
class Schedule:
    """The order in which threads run.

    Attributes:
        order: of blocks, and of threads between barriers.
        seed: of "random".
        interruptions: share of accesses after which another thread runs first.
    """

    order: Literal["forward", "reverse", "random"] = "forward"
    seed: int = 0
    interruptions: float = 0.0


class _Stamp:
    """Where a thread stood at an access."""

    __slots__ = ("block", "block_phase", "thread", "warp", "warp_phase")

    def __init__(self, thread: Thread) -> None:
        self.thread = thread.number
        self.block = thread.block.number
        self.warp = thread.warp
        self.block_phase = thread.block.phase
        self.warp_phase = thread.warp_phase

    def precedes(self, other: "_Stamp") -> bool:
        """Whether a barrier, or being one thread, orders this before the other."""
        if self.thread == other.thread:
            return True
        if self.block != other.block:
            return False
        return self.block_phase < other.block_phase or (
            self.warp == other.warp and self.warp_phase < other.warp_phase
        )


@dataclass
class _Cell:
    """The latest accesses of one element."""

    write: _Stamp | None = None
    atomic: _Stamp | None = None
    reads: dict[int, _Stamp] = field(default_factory=dict)


class Launch:
    """A launch while it runs."""

    def __init__(self, grid: int, block: int, schedule: Schedule) -> None:
        self.grid = Dim3(grid, 1, 1)
        self.block = Dim3(block, 1, 1)
        self.thread: Thread
        self._schedule = schedule
        self._random = random.Random(schedule.seed)
        self._cells: dict[str, dict[int, _Cell]] = {"global": {}, "shared": {}}
        self._hub = getcurrent()

    def run(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        substitutes: Mapping[Any, Any],
    ) -> None:
        """Run every thread to its end."""
        bound = Binder(Cuda(self), substitutes).bind(function)
        own = tuple(self._argument(argument) for argument in arguments)
        blocks = list(range(self.grid.x))
        self._reorder(blocks)
        for number in blocks:
            self._run_block(self._new_block(number, bound, own))
            self._cells["shared"].clear()

    def wait(self, wait: Wait, offered: Any) -> Any:
        """Stop the running thread until the others have come."""
        thread = self.thread
        thread.wait, thread.offered = wait, offered
        answer = self._hub.switch()
        self.thread = thread
        return answer

    def access(self, space: str, address: int, kind: str) -> None:
        """Look for a race with earlier accesses, and maybe let others run."""
        if space == "local":
            return
        thread = self.thread
        cell = self._cells[space].setdefault(address, _Cell())
        stamp = _Stamp(thread)
        if kind == "r":
            self._order("read", space, stamp, cell.write, cell.atomic)
            cell.reads[thread.number] = stamp
        else:
            what = "write" if kind == "w" else "atomic"
            before = (cell.write, cell.atomic) if kind == "w" else (cell.write,)
            self._order(what, space, stamp, *before, *cell.reads.values())
            if kind == "w":
                cell.write = stamp
            else:
                cell.atomic = stamp
            cell.reads.clear()
        if self._schedule.interruptions and self._random.random() < self._schedule.interruptions:
            thread.wait = None
            self._hub.switch()
            self.thread = thread

    @staticmethod
    def _order(what: str, space: str, stamp: _Stamp, *earlier: _Stamp | None) -> None:
        for other in earlier:
            if other is not None and not other.precedes(stamp):
                raise RaceError(
                    f"{space} memory: no barrier orders the {what} by block {stamp.block}, thread "
                    f"{stamp.thread} and an access by block {other.block}, thread {other.thread}"
                )

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            return SimulatedArray(argument, self, "global")
        if isinstance(argument, np.generic):
            return caster(argument.dtype)(argument)
        return argument

    def _new_block(
        self, number: int, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Block:
        block = Block(number, Dim3(number, 0, 0))
        for i in range(self.block.x):
            thread = Thread(
                number * self.block.x + i, Dim3(i, 0, 0), i % WARP_LANES, i // WARP_LANES, block
            )
            thread.flow = greenlet(lambda: function(*arguments))
            block.threads.append(thread)
        return block

    def _run_block(self, block: Block) -> None:
        self._hub = getcurrent()
        ready: list[tuple[Thread, Any]] = [(thread, None) for thread in block.threads]
        try:
            while ready:
                self._reorder(ready)
                interrupted = []
                for thread, answer in ready:
                    self.thread = thread
                    thread.wait = None
                    thread.flow.parent = self._hub
                    thread.flow.switch(*(() if not thread.flow else (answer,)))
                    if not thread.over and thread.wait is None:
                        interrupted.append((thread, None))
                ready = interrupted or block.release()
        finally:
            # Threads that an error left behind.
            for thread in block.threads:
                if thread.flow and not thread.over:
                    thread.flow.throw()

    def _reorder(self, items: list[Any]) -> None:
        if self._schedule.order == "reverse":
            items.reverse()
        elif self._schedule.order == "random":
            self._random.shuffle(items)


def launch(
    function: Callable[..., Any],
    grid: int,
    block: int,
    *arguments: Any,
    substitutes: Mapping[Any, Any] | None = None,
    schedule: Schedule = Schedule(),
) -> None:
    """Run a kernel's Python function; arrays are changed in place.

    Args:
        function: the kernel, undecorated.
        grid: blocks.
        block: threads of each.
        arguments: NumPy arrays and scalars, as the kernel takes them.
        substitutes: what stands for a global that has no Python body.
        schedule: the order of threads.

    Raises:
        SimulationError: what the kernel did has no defined outcome.
    """
    Launch(grid, block, schedule).run(function, arguments, substitutes or {})

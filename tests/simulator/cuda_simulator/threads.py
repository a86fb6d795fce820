"""The threads of a block, what they wait for, and when they may go on."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from greenlet import greenlet

from .errors import BarrierError, WarpError
from .scalars import Uint32

WARP_LANES = 32

Dimensions = tuple[int, int, int]


class Dim3(NamedTuple):
    """threadIdx, blockIdx, blockDim or gridDim."""

    x: int
    y: int
    z: int


class Wait(NamedTuple):
    """Where a thread waits: at a block barrier or a warp operation.

    `line` tells apart two barriers in the source, `mask` names a warp
    operation's lanes.
    """

    kind: Literal["block", "warp"]
    operation: str
    line: int
    mask: int = 0


@dataclass(eq=False)
class Thread:
    """One simulated thread.

    Attributes:
        number: in the launch.
        block_phase, warp_phase: barriers passed, by which accesses are ordered.
    """

    number: int
    index: Dim3
    lane: int
    warp: int
    block: "Block"
    flow: greenlet = field(init=False)
    wait: Wait | None = None
    offered: Any = None
    warp_phase: int = 0

    @property
    def over(self) -> bool:
        return bool(self.flow.dead)


@dataclass(eq=False)
class Block:
    """One simulated block."""

    number: int
    index: Dim3
    threads: list[Thread] = field(default_factory=list)
    shared: dict[Any, Any] = field(default_factory=dict)
    phase: int = 0

    def release(self) -> list[tuple[Thread, Any]]:
        """The threads that may go on now that all wait, each with its answer.

        Raises:
            BarrierError: they never can, or not where they stand.
            WarpError: a warp operation misses lanes.
        """
        living = [thread for thread in self.threads if not thread.over]
        released = self._release_warps(living)
        if released or not living:
            return released
        waits = {thread.wait for thread in living}
        if any(wait is None or wait.kind != "block" for wait in waits):
            raise BarrierError(f"deadlock: threads wait at {sorted(map(str, waits))}")
        if len(waits) > 1:
            raise BarrierError(f"divergent barrier: {sorted(map(str, waits))}")
        (wait,) = waits
        if len(living) < len(self.threads):
            raise BarrierError(
                f"{len(living)} of {len(self.threads)} threads reach the barrier of line "
                f"{wait.line if wait else '?'}; the others are over"
            )
        self.phase += 1
        votes = sum(bool(thread.offered) for thread in living)
        operation = wait.operation if wait else ""
        answer = {"count": votes, "or": int(votes > 0), "and": int(votes == len(living))}
        return [(thread, answer.get(operation)) for thread in living]

    def _release_warps(self, living: list[Thread]) -> list[tuple[Thread, Any]]:
        groups: dict[tuple[int, Wait], list[Thread]] = {}
        for thread in living:
            if thread.wait is not None and thread.wait.kind == "warp":
                groups.setdefault((thread.warp, thread.wait), []).append(thread)
        released = []
        for (warp, wait), group in groups.items():
            wanted = {lane for lane in range(WARP_LANES) if wait.mask >> lane & 1}
            alive = {thread.lane for thread in living if thread.warp == warp}
            here = {thread.lane: thread for thread in group}
            if not wanted & alive <= set(here):
                continue
            if missing := wanted - alive:
                raise WarpError(f"{wait.operation}, line {wait.line}: no lanes {sorted(missing)}")
            answers = [(thread, _warp_answer(wait.operation, here, thread)) for thread in group]
            phase = max(thread.warp_phase for thread in group) + 1
            for thread in group:
                thread.warp_phase = phase
            released += answers
        return released


def _warp_answer(operation: str, lanes: dict[int, Thread], thread: Thread) -> Any:
    if operation == "syncwarp":
        return None
    if operation == "ballot":
        return Uint32(sum(1 << lane for lane, each in lanes.items() if each.offered))
    if operation == "any":
        return any(each.offered for each in lanes.values())
    if operation == "all":
        return all(each.offered for each in lanes.values())
    if operation == "match_any":
        same = (lane for lane, each in lanes.items() if each.offered == thread.offered)
        return Uint32(sum(1 << lane for lane in same))
    value, argument = thread.offered
    source = {
        "shfl": int(argument) % WARP_LANES,
        "shfl_up": thread.lane - int(argument),
        "shfl_down": thread.lane + int(argument),
        "shfl_xor": thread.lane ^ int(argument),
    }[operation]
    if not 0 <= source < WARP_LANES:
        return value
    if source not in lanes:
        raise WarpError(f"{operation}: lane {thread.lane} reads lane {source}, outside the mask")
    return lanes[source].offered[0]

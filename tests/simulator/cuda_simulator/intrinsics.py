"""What `cuda` means inside a simulated kernel."""

import math
import sys
from collections.abc import Callable
from typing import Any, Protocol

from .errors import SimulationError, WarpError
from .memory import SimulatedArray, Watcher, added, poisoned
from .scalars import Float32, numpy_type
from .threads import Dim3, Thread, Wait

FULL_WARP = 0xFFFFFFFF


class Running(Watcher, Protocol):
    """The launch, as far as intrinsics need it."""

    grid: Dim3
    block: Dim3
    thread: Thread

    def wait(self, wait: Wait, offered: Any) -> Any:
        """Stop the thread until others have come; the operation's answer."""


class _Shared:
    def __init__(self, running: Running) -> None:
        self._running = running

    def array(self, shape: Any, dtype: Any) -> SimulatedArray:
        """The block's array of this place in the source."""
        frame = sys._getframe(1)
        key = frame.f_code, frame.f_lasti
        shared = self._running.thread.block.shared
        if key not in shared:
            shared[key] = poisoned(shape, numpy_type(dtype))
        return SimulatedArray(shared[key], self._running, "shared")


class _Local:
    def __init__(self, running: Running) -> None:
        self._running = running

    def array(self, shape: Any, dtype: Any) -> SimulatedArray:
        """The thread's own array."""
        return SimulatedArray(poisoned(shape, numpy_type(dtype)), self._running, "local")


def _atomic(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def operation(array: SimulatedArray, index: Any, value: Any) -> Any:
        return array.update(index, lambda old: change(old, value))

    return staticmethod(operation)


class _Atomic:
    add = _atomic(added)
    sub = _atomic(lambda old, value: old - value)
    max = _atomic(max)
    min = _atomic(min)
    exch = _atomic(lambda old, value: value)
    or_ = _atomic(lambda old, value: old | value)
    and_ = _atomic(lambda old, value: old & value)


class _Libdevice:
    @staticmethod
    def float2int_rn(value: Any) -> int:
        """The nearest int32 of a float32, to even if there are two; NaN is 0."""
        if type(value) is not Float32:
            raise SimulationError(f"float2int_rn of {type(value).__name__}, which is no float32")
        if math.isnan(value):
            return 0
        return round(min(max(value, float(-(2**31))), float(2**31 - 1)))


def _vote(operation: str) -> Callable[..., Any]:
    def call(self: "Cuda", mask: int, offered: Any) -> Any:
        return self._warp(operation, mask, offered)

    return call


def _shuffle(operation: str) -> Callable[..., Any]:
    def call(self: "Cuda", mask: int, value: Any, argument: Any) -> Any:
        return self._warp(operation, mask, (value, argument))

    return call


class Cuda:
    """Stands in for `numba.cuda`; a name that is missing here is an AttributeError."""

    atomic = _Atomic
    libdevice = _Libdevice

    def __init__(self, running: Running) -> None:
        self._running = running
        self.shared = _Shared(running)
        self.local = _Local(running)
        self.blockDim = running.block
        self.gridDim = running.grid

    @property
    def threadIdx(self) -> Dim3:  # noqa: N802 - CUDA's name
        return self._running.thread.index

    @property
    def blockIdx(self) -> Dim3:  # noqa: N802 - CUDA's name
        return self._running.thread.block.index

    @property
    def laneid(self) -> int:
        return self._running.thread.lane

    def grid(self, dimensions: int) -> int:
        assert dimensions == 1
        return self.blockIdx.x * self.blockDim.x + self.threadIdx.x

    def gridsize(self, dimensions: int) -> int:
        assert dimensions == 1
        return self.gridDim.x * self.blockDim.x

    def syncthreads(self) -> None:
        self._block("sync", None)

    def syncthreads_count(self, predicate: Any) -> Any:
        return self._block("count", predicate)

    def syncthreads_or(self, predicate: Any) -> Any:
        return self._block("or", predicate)

    def syncthreads_and(self, predicate: Any) -> Any:
        return self._block("and", predicate)

    def syncwarp(self, mask: int = FULL_WARP) -> None:
        self._warp("syncwarp", mask, None)

    ballot_sync = _vote("ballot")
    any_sync = _vote("any")
    all_sync = _vote("all")
    match_any_sync = _vote("match_any")
    shfl_sync = _shuffle("shfl")
    shfl_up_sync = _shuffle("shfl_up")
    shfl_down_sync = _shuffle("shfl_down")
    shfl_xor_sync = _shuffle("shfl_xor")

    @staticmethod
    def popc(value: int) -> int:
        return int(value).bit_count()

    @staticmethod
    def ffs(value: int) -> int:
        return (int(value) & -int(value)).bit_length()

    def _block(self, operation: str, offered: Any) -> Any:
        return self._running.wait(Wait("block", operation, sys._getframe(2).f_lineno), offered)

    def _warp(self, operation: str, mask: int, offered: Any) -> Any:
        lane = self._running.thread.lane
        if not int(mask) >> lane & 1:
            raise WarpError(f"{operation}: mask {mask:#x} lacks the calling lane {lane}")
        line = sys._getframe(2).f_lineno
        return self._running.wait(Wait("warp", operation, line, int(mask)), offered)

"""How CUDA kernels are declared: argument types, block size and budget in one place.

A kernel is compiled when it is first launched, for exactly the types written
beside it, so what the compile check measures without a GPU is what runs on one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic
from numba.cuda.np.numpy_support import from_dtype

Function = Callable[..., Any]

int8 = types.int8
int16 = types.int16
int32 = types.int32
int64 = types.int64
uint8 = types.uint8
uint16 = types.uint16
uint32 = types.uint32
float32 = types.float32

WARP_LANES = 32
FULL_WARP = 0xFFFFFFFF


def array(dtype: types.Type, dimensions: int = 1) -> types.Array:
    """The type of a C-ordered array in device memory."""
    return types.Array(dtype, dimensions, "C")


def record(dtype: np.dtype[Any]) -> types.Type:
    """The type of a structured element."""
    return from_dtype(dtype)


@dataclass(frozen=True)
class Budget:
    """What a kernel may use on every architecture; never a spill nor a stack frame.

    Attributes:
        registers: per thread. 65,536 / (registers * threads) blocks fit an SM.
        shared_bytes: per block.
    """

    registers: int
    shared_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel as declared.

    Attributes:
        function: its body.
        arguments: their types.
        threads: of a block.
        budget: see there.
    """

    function: Function
    arguments: tuple[types.Type, ...]
    threads: int
    budget: Budget

    @property
    def name(self) -> str:
        """Module and function."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @cached_property
    def compiled(self) -> Any:
        """The kernel for the current GPU."""
        declared = cuda.jit(types.void(*self.arguments), launch_bounds=self.threads)
        return declared(self.function)


def kernel(
    *arguments: types.Type, threads: int, registers: int, shared_bytes: int = 0
) -> Callable[[Function], Kernel]:
    """Declare a kernel: see `Kernel` and `Budget`."""

    def declared(function: Function) -> Kernel:
        return Kernel(function, arguments, threads, Budget(registers, shared_bytes))

    return declared


def inlined(function: Function) -> Function:
    """A piece that kernels are made of, for whatever types."""
    return cast(Function, cuda.jit(device=True)(function))


def _load(typing_context: Any, address: types.Type, dtype: types.Type) -> Any:
    """The value of a NumPy type at an int64 address of memory that nobody writes.

    What a launch reads this way no thread of it may change: the value may come
    from the read-only cache.
    """
    loaded = dtype.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Address space 1 is global memory.
        pointer = context.get_data_type(loaded).as_pointer(1)
        value = builder.load(builder.inttoptr(arguments[0], pointer))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return loaded(types.int64, dtype), generate


load: Function = intrinsic(_load)


@inlined
def prefix_sum(value: Any) -> Any:
    """int32, the sum of a warp's values up to and with this lane's."""
    reach = 1
    while reach < WARP_LANES:
        before = cuda.shfl_up_sync(FULL_WARP, value, reach)
        if cuda.laneid >= reach:
            value = np.int32(value + before)
        reach *= 2
    return value

"""How CPU kernels are compiled: ahead of use, without the GIL, cached on disk.

`kernel` compiles for one written signature when its module is imported, so no
query ever waits for a compiler; `inlined` marks the pieces that kernels are
made of. Compiled code is kept in a folder named by a digest of the kernel
sources.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.ir as ir
import numba
import numba.core.config
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Read through Any: the settings are made at run time.
config: Any = numba.core.config
# Its annotations leave out what says whether references are counted.
_njit: Any = numba.njit

Function = TypeVar("Function", bound=Callable[..., Any])

int32 = types.int32
int64 = types.int64
float32 = types.float32
uint8 = types.uint8
uint64 = types.uint64


def fixed(dtype: types.Type, dimensions: int = 1) -> types.Array:
    """The type of a C-ordered array that a kernel reads and never writes.

    Accepts writable arrays too, and memory-mapped ones, which are not.
    """
    return types.Array(dtype, dimensions, "C", readonly=True)


def written(dtype: types.Type, dimensions: int = 1) -> types.Array:
    """The type of a C-ordered array that a kernel may write."""
    return types.Array(dtype, dimensions, "C")


def source_digest() -> str:
    """A digest of every kernel source in this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _own_cache() -> Iterator[None]:
    # Numba notices a change in the kernel's own file only, and a kernel takes
    # in pieces of other files: without a folder per digest, editing one of
    # those would leave stale machine code in use.
    configured = config.CACHE_DIR
    base = Path(configured) if configured else Path(__file__).parent / "__pycache__"
    config.CACHE_DIR = str(base / f"kernels-{_DIGEST}")
    try:
        yield
    finally:
        config.CACHE_DIR = configured


def kernel(*arguments: types.Type, counted: bool = True) -> Callable[[Function], Function]:
    """Compile a function now for these argument types; calls release the GIL.

    Args:
        counted: whether references to arrays are counted. Those that are made need it; without, a
            kernel of many small `uncounted` pieces, which all take arrays, is up to three times
            as fast.
    """

    def compiled(function: Function) -> Function:
        with _own_cache():
            jit = _njit([tuple(arguments)], nogil=True, cache=True, _nrt=counted)
            return cast(Function, jit(function))

    return compiled


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function into every kernel that calls it, for whatever types."""
    return cast(Callable[..., Any], numba.njit(nogil=True)(function))


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `inlined`, for a kernel that counts no references: it makes no array."""
    return cast(Callable[..., Any], _njit(nogil=True, _nrt=False)(function))


def _void_pointer(typing_context: Any, address: types.Type) -> Any:
    """The memory at an int64 address, for `numba.carray`.

    The caller keeps the array that owns the memory alive.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


void_pointer: Callable[..., Any] = intrinsic(_void_pointer)


# What LLVM's prefetch is told: nothing will be written, keep it in every cache, it is data.
READ, EVERY_CACHE, DATA_CACHE = 0, 3, 1


def _prefetch(typing_context: Any, address: types.Type) -> Any:
    """Ask for the cache line at an int64 address, and do not wait for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        wanted = [ir.Constant(ir.IntType(32), value) for value in (READ, EVERY_CACHE, DATA_CACHE)]
        taken = [cgutils.voidptr_t, *(constant.type for constant in wanted)]
        declared = ir.FunctionType(ir.VoidType(), taken)
        function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0")
        builder.call(function, [pointer, *wanted])
        return context.get_dummy_value()

    return types.void(types.int64), generate


prefetch: Callable[..., Any] = intrinsic(_prefetch)

_DIGEST = source_digest()

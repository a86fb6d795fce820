"""Arrays as a simulated thread sees them, and addresses.

Every access is bounds-checked, typed, and told to the launch, which looks for
races and may let another thread go first.
"""

import weakref
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import MemoryFault, SimulationError, StoreOverflow
from .scalars import Float32, caster, numpy_type

POISON = 0xA5


class Watcher(Protocol):
    """Is told of every access."""

    def access(self, space: str, address: int, kind: str) -> None:
        """A thread is about to read (r), write (w) or update atomically (a)."""


class SimulatedArray:
    """An array in global, shared or local memory."""

    __slots__ = ("_bounds", "_data", "_watcher", "address", "cast", "space")

    def __init__(self, data: NDArray[Any], watcher: Watcher, space: str) -> None:
        self._data = data
        self._watcher = watcher
        self.space = space
        self.address = data.__array_interface__["data"][0]
        self.cast: Callable[[Any], Any] | None = None
        self._bounds: tuple[int, int] | None = None
        if data.dtype.names is None:
            self.cast = caster(data.dtype)
            if data.dtype.kind in "iu":
                limits = np.iinfo(data.dtype)
                self._bounds = int(limits.min), int(limits.max)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    def __len__(self) -> int:
        return len(self._data)

    def place(self, index: Any) -> tuple[int, tuple[int, ...]]:
        """The address of an element, and its index as plain integers."""
        places = index if type(index) is tuple else (index,)
        if len(places) != self._data.ndim:
            raise SimulationError(f"{len(places)} indices into {self._data.ndim} dimensions")
        address = self.address
        for at, length, stride in zip(places, self._data.shape, self._data.strides, strict=True):
            if not 0 <= at < length:
                raise MemoryFault(f"{self.space} index {at} outside 0..{length - 1}")
            address += int(at) * stride
        return address, places

    def __getitem__(self, index: Any) -> Any:
        address, places = self.place(index)
        self._watcher.access(self.space, address, "r")
        value = self._data[places]
        return _Record(value) if self.cast is None else self.cast(value)

    def __setitem__(self, index: Any, value: Any) -> None:
        address, places = self.place(index)
        if self._bounds is not None and not self._bounds[0] <= int(value) <= self._bounds[1]:
            raise StoreOverflow(f"{value} in {self.dtype} ({self.space})")
        self._watcher.access(self.space, address, "w")
        self._data[places] = value

    def update(self, index: Any, change: Callable[[Any], Any]) -> Any:
        """Change an element atomically; its old value."""
        if self.dtype.name not in ("int32", "uint32", "int64", "uint64"):
            raise SimulationError(f"an atomic on {self.dtype}: this hardware may have none")
        if self.space == "local" or self.cast is None:
            raise SimulationError(f"an atomic on {self.space} memory")
        address, places = self.place(index)
        self._watcher.access(self.space, address, "a")
        old = self.cast(self._data[places])
        self._data[places] = self.cast(change(old))
        return old


class _Record:
    """A structured element; a field is read by its name."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getattr__(self, name: str) -> Any:
        field = self._value[name]
        return caster(field.dtype)(field)


def poisoned(shape: Any, dtype: DTypeLike) -> NDArray[Any]:
    """An array of values that nobody would take for real ones."""
    data = np.empty(shape, dtype)
    data.reshape(-1).view(np.uint8).fill(POISON)
    return data


class AddressSpace:
    """The arrays whose elements may be loaded by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: dict[int, tuple[int, Any]] = {}

    def add(self, array: NDArray[Any]) -> int:
        """Make an array reachable while it lives; its address."""
        address: int = array.__array_interface__["data"][0]
        # Memory of arrays that are gone may be part of this one.
        self._arrays = {at: known for at, known in self._arrays.items() if known[1]() is not None}
        if array.nbytes:
            self._arrays[address] = array.nbytes, weakref.ref(array)
        self._starts = sorted(self._arrays)
        return address

    def load(self, address: int, dtype: DTypeLike) -> Any:
        """The element of a type at an address."""
        wanted = np.dtype(dtype)
        place = bisect_right(self._starts, address) - 1
        if place >= 0:
            start = self._starts[place]
            length, reference = self._arrays[start]
            array = reference()
            if array is not None and address + wanted.itemsize <= start + length:
                if address % wanted.itemsize:
                    raise MemoryFault(f"{wanted} at address {address:#x}, which is not aligned")
                raw = array.reshape(-1).view(np.uint8)[address - start :][: wanted.itemsize]
                return caster(wanted)(raw.view(wanted)[0])
        raise MemoryFault(f"no array holds a {wanted} at address {address:#x}")


ADDRESSES = AddressSpace()


def load(address: int, dtype: Any) -> Any:
    """Stands in for the kernels' `load`: constant memory, by address."""
    return ADDRESSES.load(int(address), numpy_type(dtype))


def added(old: Any, value: Any) -> Any:
    """The sum, in the type of a float32 if one is added to."""
    return old + (Float32(value) if type(old) is Float32 else value)

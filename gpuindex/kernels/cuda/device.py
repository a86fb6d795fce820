"""Where the twins run: one allocator and one way to launch.

A device hands out arrays through a module with NumPy's interface and launches
kernels on them. On a GPU the module is CuPy, and kernels go to CuPy's current
stream, so that they, CuPy's own operations and the freeing of arrays keep one
order. A simulator is another class with the same members.
"""

from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from .compiled import Kernel


class Device(Protocol):
    """What an operation needs of the place where it runs."""

    @property
    def most_blocks(self) -> int:
        """Blocks that a launch has at most; kernels loop over the rest."""

    @property
    def arrays(self) -> Any:
        """NumPy or CuPy, whose arrays the kernels take."""

    def in_order(self) -> AbstractContextManager[Any]:
        """Within it, whatever any thread asks for is done in the order of asking."""

    def free_bytes(self) -> int:
        """How much more memory could be had, whoever else uses the device."""

    def put(self, array: NDArray[Any]) -> Any:
        """A copy of a host array."""

    def get(self, array: Any) -> NDArray[Any]:
        """A copy on the host, once all that was asked for before is done."""

    def records(self, octets: Any, dtype: np.dtype[Any]) -> Any:
        """[n, m] records of the type for kernels to take, in [n, m * size] uint8."""

    def address(self, array: Any) -> int:
        """Where an array is; the caller keeps it alive."""

    def launch(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        """Run a kernel on arrays of this device after all that was launched before."""


class Gpu:
    """The current CUDA device."""

    @cached_property
    def arrays(self) -> Any:
        """CuPy."""
        import cupy

        return cupy

    @cached_property
    def most_blocks(self) -> int:
        """Enough to fill every multiprocessor with blocks of 256 threads twice."""
        return 16 * int(self.arrays.cuda.Device().attributes["MultiProcessorCount"])

    @cached_property
    def _stream(self) -> Any:
        return self.arrays.cuda.Stream(non_blocking=True)

    def in_order(self) -> AbstractContextManager[Any]:
        """The one stream of this process's index, as CuPy's current one."""
        stream: AbstractContextManager[Any] = self._stream
        return stream

    def free_bytes(self) -> int:
        """What the driver has left for anybody, torch included, and CuPy's pool for us."""
        free, _ = self.arrays.cuda.runtime.memGetInfo()
        return int(free) + int(self.arrays.get_default_memory_pool().free_bytes())

    def put(self, array: NDArray[Any]) -> Any:
        """A copy in device memory, from CuPy's pool."""
        if array.dtype.names is None:
            return self.arrays.asarray(array)
        octets = np.ascontiguousarray(array).view(np.uint8)
        return self.records(self.arrays.asarray(octets), array.dtype)

    def get(self, array: Any) -> NDArray[Any]:
        """A copy on the host."""
        return np.asarray(array.get())

    def records(self, octets: Any, dtype: np.dtype[Any]) -> Any:
        """CuPy has no structured types: it keeps the bytes, and Numba the type."""
        return cuda.as_cuda_array(octets, sync=False).view(dtype)

    def address(self, array: Any) -> int:
        """The array's device address."""
        return int(array.data.ptr)

    def launch(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        """Launch on CuPy's current stream."""
        stream = cuda.external_stream(self.arrays.cuda.get_current_stream().ptr)
        # Numba would wait for each array's stream, but this is that stream.
        own = [
            cuda.as_cuda_array(each, sync=False) if isinstance(each, self.arrays.ndarray) else each
            for each in arguments
        ]
        kernel.compiled[blocks, kernel.threads, stream](*own)


_device: Device = Gpu()


def current() -> Device:
    """The device that operations run on."""
    return _device


def use(device: Device) -> None:
    """Run operations on another device from now on."""
    global _device
    _device = device


def spread(kernel: Kernel, items: int, *arguments: Any, lanes: int = 1) -> None:
    """Launch a kernel with blocks for so many items, or for as many as it loops over.

    Args:
        kernel: one that strides over its items by the size of the grid.
        items: how many; at least one block is launched.
        arguments: of the kernel.
        lanes: threads that share an item.
    """
    blocks = -(-items * lanes // kernel.threads)
    _device.launch(kernel, max(1, min(blocks, _device.most_blocks)), *arguments)

"""The simulator as a device of `gpuindex.kernels.cuda`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from cuda_simulator.launch import Schedule, launch
from cuda_simulator.memory import ADDRESSES
from cuda_simulator.memory import load as simulated_load
from numba.cuda import types
from numpy.typing import NDArray

from gpuindex.kernels.cuda.compiled import Kernel, load

Array = NDArray[Any]


class SimulatedGpu:
    """A device whose kernels run in the simulator, on NumPy's arrays.

    Attributes:
        copied_bytes: from the host so far.
    """

    arrays = np
    # More than one, so that blocks share work and loops over the grid turn.
    most_blocks = 2

    def __init__(self, schedule: Schedule, memory_bytes: int = 1 << 30) -> None:
        """An idle device.

        Args:
            schedule: the order of threads.
            memory_bytes: what is free, whatever is put there.
        """
        self._schedule = schedule
        self.memory_bytes = memory_bytes
        self.copied_bytes = 0

    def in_order(self) -> AbstractContextManager[None]:
        return nullcontext()

    def free_bytes(self) -> int:
        return self.memory_bytes

    def put(self, array: Array) -> Array:
        self.copied_bytes += array.nbytes
        return array.copy()

    def get(self, array: Array) -> Array:
        return array.copy()

    def records(self, octets: Array, dtype: np.dtype[Any]) -> Array:
        return octets.view(dtype)

    def address(self, array: Array) -> int:
        return ADDRESSES.add(array)

    def launch(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        for wanted, argument in zip(kernel.arguments, arguments, strict=True):
            if isinstance(wanted, types.Array):
                assert argument.flags.c_contiguous, kernel.name
                assert argument.ndim == wanted.ndim, kernel.name
                if argument.dtype.names is None:
                    assert str(wanted.dtype) == argument.dtype.name, kernel.name
            else:
                assert np.ndim(argument) == 0, kernel.name
        launch(
            kernel.function,
            blocks,
            kernel.threads,
            *arguments,
            substitutes={load: simulated_load},
            schedule=self._schedule,
        )

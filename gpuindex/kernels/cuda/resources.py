"""What kernels take on each architecture, found by compiling without a GPU.

`python -m gpuindex.kernels.cuda.resources` prints the table. A kernel goes from
Python to PTX, and from PTX to machine code in the linker of the CUDA toolkit,
whose report is what is read here.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.cuda import dispatcher

from .compiled import Kernel

# Turing (T4), Ampere's desktop parts, Ada (L4), Hopper (H100).
ARCHITECTURES = ((7, 5), (8, 0), (8, 9), (9, 0))

# On Hopper the report counts what the system keeps of a block's shared memory.
SYSTEM_SHARED_BYTES = 1_024

_REPORTED = {
    "registers": re.compile(r"[Uu]sed (\d+) registers"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spilled_bytes": re.compile(r"(\d+) bytes spill stores"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
}


@dataclass(frozen=True)
class Resources:
    """What a kernel takes: registers and stack per thread, shared memory per block."""

    registers: int
    stack_bytes: int
    spilled_bytes: int
    shared_bytes: int
    cubin_bytes: int


@contextmanager
def _without_gpu(capability: tuple[int, int]) -> Iterator[None]:
    # A kernel's device functions are compiled for the current device, which
    # Numba asks for nothing but its compute capability.
    class Device:
        compute_capability = capability

    asked: Any = dispatcher
    real = asked.get_current_device
    asked.get_current_device = Device
    try:
        yield
    finally:
        asked.get_current_device = real


@cache
def compile_ptx(kernel: Kernel, capability: tuple[int, int]) -> str:
    """The kernel's PTX."""
    with _without_gpu(capability):
        text, _ = cuda.compile(
            kernel.function,
            kernel.arguments,
            device=False,
            abi="numba",
            cc=capability,
            launch_bounds=kernel.threads,
            output="ptx",
        )
    return str(text.decode() if isinstance(text, bytes) else text)


@cache
def measure(kernel: Kernel, capability: tuple[int, int]) -> Resources:
    """Compile a kernel to machine code and read what it takes."""
    major, minor = capability
    options = LinkerOptions(arch=f"sm_{major}{minor}", verbose=True)
    linker = Linker(ObjectCode.from_ptx(compile_ptx(kernel, capability).encode()), options=options)
    cubin = linker.link("cubin")
    report = linker.get_info_log()
    found = {name: pattern.findall(report) for name, pattern in _REPORTED.items()}
    numbers = {name: max(map(int, values), default=0) for name, values in found.items()}
    if capability >= (9, 0) and numbers["shared_bytes"]:
        numbers["shared_bytes"] -= SYSTEM_SHARED_BYTES
    return Resources(**numbers, cubin_bytes=len(cubin.code))


def kernels() -> dict[str, Kernel]:
    """Every kernel of this package, by name."""
    from . import build, compact, dense, encode, mark, score, screen, topk

    return {
        value.name: value
        for module in (build, compact, dense, encode, mark, score, screen, topk)
        for value in vars(module).values()
        if isinstance(value, Kernel)
    }


def main() -> None:
    """Print the table."""
    row = "{:<28}{:>8}{:>11}{:>8}{:>8}{:>9}\n"
    sys.stdout.write(row.format("kernel", "sm", "registers", "stack", "spills", "shared"))
    for name, kernel in kernels().items():
        for capability in ARCHITECTURES:
            taken = measure(kernel, capability)
            sys.stdout.write(
                row.format(
                    name,
                    "{}{}".format(*capability),
                    f"{taken.registers}/{kernel.budget.registers}",
                    taken.stack_bytes,
                    taken.spilled_bytes,
                    f"{taken.shared_bytes}/{kernel.budget.shared_bytes}",
                )
            )


if __name__ == "__main__":
    main()

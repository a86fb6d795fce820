"""Every CUDA kernel compiles for every architecture and stays within its budget.

No GPU is needed: kernels are compiled to PTX and linked to machine code.
"""

import pytest

from gpuindex.kernels.cuda.compiled import Kernel
from gpuindex.kernels.cuda.resources import ARCHITECTURES, compile_ptx, kernels, measure

KERNELS = kernels()

# Threads that an SM of the smallest architecture holds, and its registers.
SM_THREADS = 1_024
SM_REGISTERS = 65_536


@pytest.mark.parametrize("capability", ARCHITECTURES, ids=lambda each: "sm_{}{}".format(*each))
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_kernel_stays_within_its_budget(kernel: Kernel, capability: tuple[int, int]) -> None:
    taken = measure(kernel, capability)
    assert 0 < taken.registers <= kernel.budget.registers
    assert taken.shared_bytes <= kernel.budget.shared_bytes
    assert (taken.stack_bytes, taken.spilled_bytes) == (0, 0)
    assert taken.cubin_bytes > 0


def test_a_budget_is_not_wider_than_a_kernel_needs() -> None:
    """Otherwise it would let a kernel grow unnoticed; registers are handed out by eights."""
    for kernel in KERNELS.values():
        most = max(measure(kernel, capability).registers for capability in ARCHITECTURES)
        assert kernel.budget.registers - most < 16, kernel.name


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_budgets_leave_half_a_multiprocessor_busy_at_least(kernel: Kernel) -> None:
    blocks = SM_REGISTERS // (kernel.budget.registers * kernel.threads)
    assert min(blocks * kernel.threads, SM_THREADS) >= SM_THREADS // 2


def test_scores_are_added_by_hardware_and_postings_read_through_the_read_only_cache() -> None:
    ptx = compile_ptx(KERNELS["score.scatter_pieces"], ARCHITECTURES[0])
    assert "atom.global.add.u32" in ptx or "red.global.add.u32" in ptx
    assert "ld.global.nc.u16" in ptx
    assert "atom.global.cas" not in ptx
    assert ".f64" not in ptx


def test_no_kernel_computes_in_double_precision() -> None:
    """A stray float literal would; consumer GPUs run it at a thirty-second of the speed."""
    for kernel in KERNELS.values():
        assert ".f64" not in compile_ptx(kernel, ARCHITECTURES[-1]), kernel.name

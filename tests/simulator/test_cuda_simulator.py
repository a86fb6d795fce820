"""The simulator runs what CUDA runs, and refuses what CUDA leaves undefined."""

from typing import Any

import numpy as np
import pytest
from cuda_simulator.errors import (
    BarrierError,
    MemoryFault,
    RaceError,
    SimulationError,
    StoreOverflow,
    TypingFault,
    WarpError,
)
from cuda_simulator.launch import Schedule, launch
from cuda_simulator.memory import ADDRESSES, POISON
from numba import cuda

SCHEDULES = [
    Schedule(),
    Schedule("reverse"),
    Schedule("random", seed=1, interruptions=0.2),
    Schedule("random", seed=2, interruptions=0.2),
]
FULL_WARP = 0xFFFFFFFF


def sum_of_block(values: Any, sums: Any) -> None:
    """A sum by halving in shared memory."""
    own = cuda.shared.array(64, np.int32)
    t = cuda.threadIdx.x
    own[t] = values[cuda.grid(1)]
    cuda.syncthreads()
    reach = 32
    while reach > 0:
        if t < reach:
            own[t] += own[t + reach]
        cuda.syncthreads()
        reach //= 2
    if t == 0:
        cuda.atomic.add(sums, 0, own[0])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_sum_is_right_in_every_schedule(schedule: Schedule) -> None:
    values = np.arange(192, dtype=np.int32)
    sums = np.zeros(1, np.int32)
    launch(sum_of_block, 3, 64, values, sums, schedule=schedule)
    assert sums[0] == values.sum()


def without_barrier(values: Any) -> None:
    t = cuda.threadIdx.x
    values[t] = t
    values[(t + 1) % 64] += 1


def read_before_write(values: Any) -> None:
    if cuda.threadIdx.x == 0:
        values[0] = 5
    values[1 + cuda.threadIdx.x] = values[0]


def across_blocks(values: Any) -> None:
    """A block barrier orders nothing between blocks."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        values[0] += 1


@pytest.mark.parametrize("kernel", [without_barrier, read_before_write, across_blocks])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_race_is_found_in_every_schedule(kernel: Any, schedule: Schedule) -> None:
    with pytest.raises(RaceError):
        launch(kernel, 2, 64, np.zeros(128, np.int32), schedule=schedule)


def exchange_in_warp(values: Any) -> None:
    t = cuda.threadIdx.x
    values[t] = t
    cuda.syncwarp()
    other = values[t ^ 1]
    cuda.syncwarp()
    values[t] = other


def test_a_warp_barrier_orders_its_own_warp_only() -> None:
    values = np.zeros(64, np.int32)
    launch(exchange_in_warp, 1, 64, values)
    assert values.tolist() == [t ^ 1 for t in range(64)]

    def exchange_between_warps(values: Any) -> None:
        t = cuda.threadIdx.x
        values[t] = t
        cuda.syncwarp()
        values[t] = values[t ^ 32]

    with pytest.raises(RaceError):
        launch(exchange_between_warps, 1, 64, values)


def votes(values: Any) -> None:
    lane = cuda.laneid
    odd = cuda.ballot_sync(FULL_WARP, lane % 2 == 1)
    values[lane, 0] = cuda.popc(odd & ((1 << lane) - 1))
    values[lane, 1] = cuda.shfl_up_sync(FULL_WARP, lane, 4)
    values[lane, 2] = cuda.shfl_xor_sync(FULL_WARP, lane, 16)
    values[lane, 3] = cuda.shfl_sync(FULL_WARP, lane, 7)
    values[lane, 4] = cuda.popc(cuda.match_any_sync(FULL_WARP, lane // 3))


def test_warp_operations_answer_as_cuda_does() -> None:
    values = np.zeros((32, 5), np.int32)
    launch(votes, 1, 32, values)
    for lane, row in enumerate(values.tolist()):
        triple = min(3, 32 - lane // 3 * 3)
        assert row == [lane // 2, lane - 4 if lane >= 4 else lane, lane ^ 16, 7, triple]


def half_at_the_barrier(values: Any) -> None:
    if cuda.threadIdx.x < 16:
        cuda.syncthreads()


def at_two_barriers(values: Any) -> None:
    if cuda.threadIdx.x < 16:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def lanes_gone(values: Any) -> None:
    if cuda.threadIdx.x < 16:
        cuda.ballot_sync(FULL_WARP, True)


def mask_without_caller(values: Any) -> None:
    cuda.syncwarp(1)


def barrier_against_vote(values: Any) -> None:
    if cuda.threadIdx.x < 16:
        cuda.ballot_sync(0xFFFF, True)
    else:
        cuda.ballot_sync(FULL_WARP, True)
    cuda.syncthreads()


def overflow(values: Any) -> None:
    values[0] = 1 << 31


def negative_index(values: Any) -> None:
    values[-1] = 1


def out_of_bounds(values: Any) -> None:
    values[values.shape[0]] = 1


def mixed_signs(values: Any) -> None:
    values[0] = np.uint64(3) + 1


def atomic_on_local(values: Any) -> None:
    cuda.atomic.add(cuda.local.array(1, np.int32), 0, 1)


@pytest.mark.parametrize(
    ("kernel", "error"),
    [
        (half_at_the_barrier, BarrierError),
        (at_two_barriers, BarrierError),
        (lanes_gone, WarpError),
        (mask_without_caller, WarpError),
        (barrier_against_vote, SimulationError),
        (overflow, StoreOverflow),
        (negative_index, MemoryFault),
        (out_of_bounds, MemoryFault),
        (mixed_signs, TypingFault),
        (atomic_on_local, SimulationError),
    ],
)
def test_what_has_no_defined_outcome_is_refused(kernel: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        launch(kernel, 1, 32, np.zeros(4, np.int32))


def test_numbers_are_typed_as_numba_types_them() -> None:
    def kernel(wide: Any, narrow: Any, real: Any) -> None:
        wide[0] = np.uint64(1 << 63) * np.uint64(2)
        wide[1] = np.uint8(200) + np.uint8(100)
        narrow[0] = np.int32(1 << 31)
        real[0] = np.float32(0.1) * np.float32(3)
        real[1] = np.float32(0.1) * 3.0

    wide, narrow, real = np.ones(2, np.uint64), np.zeros(1, np.int32), np.zeros(2)
    launch(kernel, 1, 1, wide, narrow, real)
    assert wide.tolist() == [0, 300]
    assert narrow[0] == -(2**31)
    assert real.tolist() == [float(np.float32(0.1) * np.float32(3)), float(np.float32(0.1)) * 3.0]


def test_shared_memory_begins_poisoned_and_is_one_array_per_place() -> None:
    def kernel(values: Any) -> None:
        first, second = cuda.shared.array(1, np.uint8), cuda.shared.array(1, np.uint8)
        values[0] = first[0]
        first[0] = 1
        values[1] = second[0]

    values = np.zeros(2, np.uint8)
    launch(kernel, 1, 1, values)
    assert values.tolist() == [POISON, POISON]


def test_an_address_is_loaded_only_from_a_living_array() -> None:
    known = np.arange(4, dtype=np.int32)
    address = ADDRESSES.add(known)
    assert ADDRESSES.load(address + 8, np.int32) == 2
    for wrong in (address + 2, address + 16, address - 4):
        with pytest.raises(MemoryFault):
            ADDRESSES.load(wrong, np.int32)
    del known
    with pytest.raises(MemoryFault):
        ADDRESSES.load(address, np.int32)


def round_all(values: Any, rounded: Any) -> None:
    rounded[cuda.threadIdx.x] = cuda.libdevice.float2int_rn(values[cuda.threadIdx.x])


def test_floats_become_the_nearest_integers_that_there_are() -> None:
    """Memory that was never written may hold any of these, and hardware rounds them all."""
    values = np.array([0.5, 1.5, -2.5, 3e9, -np.inf, np.inf, np.nan, 7.4], np.float32)
    rounded = np.zeros(8, np.int32)
    launch(round_all, 1, 8, values, rounded)
    assert rounded.tolist() == [0, 2, -2, 2**31 - 1, -(2**31), 2**31 - 1, 0, 7]

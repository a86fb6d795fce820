"""Latencies: measured from outside, and read from a worker's own histograms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

Seconds = NDArray[np.float64]
Buckets = dict[float, float]
"""Upper bound in seconds (the last is infinite) -> observations at or below it."""


def buckets(page: str, metric: str, stage: str) -> Buckets:
    """Read one histogram with a `stage` label from a page of metrics."""
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(page)
        if family.name == metric
        for sample in family.samples
        if sample.name == f"{metric}_bucket" and sample.labels["stage"] == stage
    }


def quantile(before: Buckets, after: Buckets, q: float) -> float:
    """The q-quantile, in seconds, of what was observed between two readings.

    Linear within a bucket, as Prometheus' histogram_quantile.
    """
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    wanted = q * max(counts.values())
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *counts.items()]):
        if upto >= wanted and upto > below:
            share = (wanted - below) / (upto - below)
            return low if high == float("inf") else low + (high - low) * share
    return float("nan")


async def timed(call: Callable[[int], Awaitable[object]], calls: int) -> Seconds:
    """Make calls one after the other; [calls] float64, what each took. `call` gets its number."""
    seconds = np.empty(calls)
    for at in range(calls):
        began = time.perf_counter()
        await call(at)
        seconds[at] = time.perf_counter() - began
    return seconds


async def closed_loop(
    call: Callable[[int], Awaitable[object]], callers: int, duration_s: float
) -> tuple[int, float]:
    """Let several callers ask, each waiting for its answer before it asks again.

    Returns:
        How many calls were made, and in how many seconds.
    """
    began = time.perf_counter()
    numbers = count()

    async def caller() -> None:
        while time.perf_counter() - began < duration_s:
            await call(next(numbers))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return next(numbers), time.perf_counter() - began

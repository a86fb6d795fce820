"""Search, update and size of the index beside peers that can be installed.

The workload is that of `benchmarks.workload`, with exact top 1000 and, in
headwater, eligibility. Times are CPU time of the threads that a system works
on, with its caches warm: each takes its turns of all queries, while 1,000 ads
have younger versions in a delta. Rows are medians.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuindex import AdBatch, Index, IndexSettings, Query, SearchThreads, snapshots, warm
from gpuindex.postings import Postings

from .peers import (
    LOAD_ADS,
    GraphBlas,
    QdrantEdge,
    ScipyDelta,
    ScipyGemmDelta,
    System,
    TorchScipy,
    installed,
)
from .workload import FEATURES, PER_AD, SCALE, WIDTH, Ads, K, Weighted, queries

UPSERTS = 1_000
TURNS = 3

# Share of headwater's candidates that an exact float search must have too; the
# rest is what 6 bits of query weight cost at the cut.
LEAST_OVERLAP = 0.9

# Load beside which a query is measured: batches of 100 at 10,000 ads a second.
WRITE_ADS = 100
WRITE_EVERY_S = 0.01


class Headwater:
    """The index, in the layout that its own maintenance gives it."""

    name = "headwater"
    clock = staticmethod(time.thread_time)

    def __init__(self, ads: Ads) -> None:
        settings = IndexSettings(embedding_width=WIDTH, payload_width=1)
        warm(settings)
        self.index = Index(settings)
        self.version = 1
        for feature in range(FEATURES):
            self.index.features.intern(f"feature={feature}")
        for start in range(0, len(ads.ad_ids), LOAD_ADS):
            self.upsert(self.prepared(ads, slice(start, start + LOAD_ADS)))
            self.tidy()

    def prepared(self, ads: Ads, rows: slice = slice(None)) -> AdBatch:
        """Ads as the intake hands them over: decoded and embedded."""
        self.version += 1
        ad_ids = ads.ad_ids[rows]
        count = len(ad_ids)
        return AdBatch(
            ad_ids=ad_ids,
            versions=np.full(count, self.version, np.int64),
            deleted=np.zeros(count, np.bool_),
            feature_offsets=np.arange(0, PER_AD * count + 1, PER_AD, dtype=np.int32),
            feature_ids=ads.features[rows].ravel(),
            weights=ads.weights[rows].ravel(),
            embeddings=ads.embeddings[rows],
            payload=np.zeros((count, 1), np.int64),
            targeting=[None] * count,
        )

    def tidy(self) -> None:
        """Seal and fold, as the intake does between batches."""
        while self.index.maintain():
            pass
        self.index.publish()

    def upsert(self, ads: AdBatch) -> None:
        self.index.apply(ads)
        self.index.publish()

    def sparse(self, query: Weighted, threads: SearchThreads | None = None) -> NDArray[np.int64]:
        return self.search(query, "sparse", threads)

    def full(self, query: Weighted) -> NDArray[np.int64]:
        return self.search(query, "full")

    def search(
        self, query: Weighted, mode: Any, threads: SearchThreads | None = None
    ) -> NDArray[np.int64]:
        asked = Query(
            feature_ids=query.features,
            weights=query.weights,
            vector=query.vector,
            embedding_scale=SCALE,
            now_ms=0,
            seed=0,
            mode=mode,
        )
        return self.index.view.search(asked, K, threads=threads).ad_ids

    def bits(self) -> float:
        """Bits per posting of the sealed shards, weights and pointers included."""
        shards = self.index.view.shards
        total = PER_AD * sum(shard.ads for shard in shards)
        return 8 * sum(shard.postings.memory_bytes() for shard in shards) / total


class Rows:
    """Observations by axis and system, in the order of their first."""

    def __init__(self) -> None:
        self._observed: dict[tuple[str, str], list[float]] = {}

    def add(self, axis: str, system: System, value: float) -> None:
        self.add_named(axis, system.name, value)

    def add_named(self, axis: str, name: str, value: float) -> None:
        self._observed.setdefault((axis, name), []).append(value)

    def clocked(self, axis: str, system: System, work: Callable[[], Any]) -> Any:
        """Let a system do some work and add the CPU time that it took, in the axis's unit."""
        started = system.clock()
        result = work()
        taken = system.clock() - started
        self.add(axis, system, taken * 1e3 if _unit(axis) == "ms" else taken)
        return result

    def rows(self) -> list[dict[str, Any]]:
        """Rows as CONTRACT says: medians with their standard errors."""
        return [
            {
                "axis": axis,
                "system": system,
                "value": float(np.median(values)),
                "unit": _unit(axis),
                "spread": _median_error(values),
                "n": len(values),
            }
            for (axis, system), values in self._observed.items()
        ]


def _unit(axis: str) -> str:
    for ending, unit in (("_ms", "ms"), ("_s", "s"), ("_ratio", "ratio"), ("_speedup", "ratio")):
        if axis.endswith(ending):
            return unit
    return "bits"


def _median_error(values: list[float]) -> float | None:
    """The standard error of a median, from the absolute deviations from it."""
    if len(values) < 2:
        return None
    deviation = 1.4826 * float(np.median(np.abs(np.array(values) - np.median(values))))
    return 1.2533 * deviation / float(np.sqrt(len(values)))


def measure(ads_count: int, repeats: int) -> list[dict[str, Any]]:
    """Build all systems, then let them take turns."""
    random = np.random.default_rng(0)
    ads = Ads(np.arange(ads_count), random)
    rows = Rows()
    with TemporaryDirectory() as folder:
        headwater, scipy_delta = Headwater(ads), ScipyDelta(ads)
        _measure_size_and_build(headwater, scipy_delta, ads, rows)
        qdrant = QdrantEdge(ads, Path(folder) / "qdrant")
        systems: list[System] = [headwater, scipy_delta, ScipyGemmDelta(ads), qdrant]
        if installed("graphblas"):
            systems.append(GraphBlas(ads))
        # Younger versions of some ads, which every query has to find.
        young = Ads(random.choice(ads_count, UPSERTS, replace=False), random)
        for system in systems:
            system.upsert(system.prepared(young))
        asked = queries(repeats, random)
        for kind in asked:
            for turn in range(TURNS):
                found = {}
                for system in systems[turn:] + systems[:turn]:
                    found[system] = [
                        rows.clocked(f"sparse_{kind}_ms", system, partial(system.sparse, query))
                        for query in asked[kind]
                    ]
                for own in found.values():
                    for candidates, exact in zip(own, found[scipy_delta], strict=True):
                        _compare(candidates, exact)
        dense: list[Any] = [headwater, scipy_delta]
        if installed("torch"):
            dense.append(TorchScipy(ads))
        for kind in asked:
            for _ in range(TURNS):
                for system in dense:
                    for query in asked[kind]:
                        rows.clocked(f"full_{kind}_ms", system, partial(system.full, query))
        _measure_threads(headwater, asked["heavy"], rows)
        _measure_upserts(systems, ads_count, asked["light"], rows, random)
        _measure_under_writes(headwater, ads_count, asked["heavy"], rows, random)
        _measure_restore(headwater, Path(folder) / "snapshots", rows)
        qdrant.shard.close()
    return rows.rows()


def _measure_size_and_build(
    headwater: Headwater, scipy_delta: ScipyDelta, ads: Ads, rows: Rows
) -> None:
    """Bytes as the index's own maintenance left them, and one build of everything."""
    rows.add("bits_per_posting_weighted", headwater, headwater.bits())
    rows.add("bits_per_posting_weighted", scipy_delta, scipy_delta.bits())
    count = len(ads.ad_ids)
    bounds = np.arange(0, PER_AD * count + 1, PER_AD)
    keep = np.ones(count, np.uint8)
    features = ads.features.ravel()
    weights = ads.weights.ravel()
    for _ in range(TURNS):
        rows.clocked(
            "build_s",
            headwater,
            partial(Postings.built, count, bounds, features, weights, keep, FEATURES),
        )
        rows.clocked("build_s", scipy_delta, partial(scipy_delta._matrix, ads))
    plain = Postings.built(count, bounds, features, np.full_like(weights, 255), keep, FEATURES)
    rows.add("bits_per_posting", headwater, 8 * plain.memory_bytes() / len(features))


def _measure_threads(headwater: Headwater, asked: list[Weighted], rows: Rows) -> None:
    """Wall time of a heavy query on one thread over that on two, and so for copying memory.

    Each in turn, pairwise, so that what else the machine does is in both.
    """
    source = np.ones(64_000_000, np.uint8)
    copied = np.empty_like(source)
    halves = [slice(0, len(source) // 2), slice(len(source) // 2, None)]

    def copy(part: slice) -> None:
        copied[part] = source[part]

    threads = SearchThreads(2)
    for _ in range(TURNS):
        for query in asked:
            headwater.sparse(query)
            one = _wall_s(partial(headwater.sparse, query))
            two = _wall_s(partial(headwater.sparse, query, threads))
            rows.add("two_core_speedup", headwater, one / two)
            one = _wall_s(partial(copy, slice(None)))
            two = _wall_s(partial(threads.map, copy, halves))
            rows.add_named("two_core_speedup", "memory_copy", one / two)
    threads.close()


def _measure_upserts(
    systems: list[System],
    ads_count: int,
    light: list[Weighted],
    rows: Rows,
    random: np.random.Generator,
) -> None:
    """The same new versions for all, from decoded to searchable, and to found."""
    for axis, count in (("upsert_1000_ms", UPSERTS), ("upsert_one_ms", 1), ("upsert_found_ms", 1)):
        young = [Ads(random.choice(ads_count, count, replace=False), random) for _ in light]
        for system in systems:
            for ads, query in zip(young, light, strict=True):
                prepared = system.prepared(ads)

                def work(system: System = system, ads: Any = prepared, query: Any = query) -> None:
                    system.upsert(ads)
                    if axis == "upsert_found_ms":  # noqa: B023 - called at once
                        system.sparse(query)

                rows.clocked(axis, system, work)
                system.tidy()


def _measure_under_writes(
    headwater: Headwater,
    ads_count: int,
    heavy: list[Weighted],
    rows: Rows,
    random: np.random.Generator,
) -> None:
    """A heavy query's own CPU time while another thread writes, over that while none does."""
    batches = [
        headwater.prepared(Ads(random.choice(ads_count, WRITE_ADS, replace=False), random))
        for _ in range(200)
    ]

    def idle_then_written() -> None:
        idle = [_cpu_s(partial(headwater.sparse, query)) for query in heavy]
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(headwater, batches, stop))
        writer.start()
        written = [_cpu_s(partial(headwater.sparse, query)) for query in heavy]
        stop.set()
        writer.join()
        for quiet, busy in zip(idle, written, strict=True):
            rows.add("query_under_writes_ratio", headwater, busy / quiet)

    for _ in range(TURNS):
        idle_then_written()


def _write(headwater: Headwater, batches: list[AdBatch], stop: threading.Event) -> None:
    """Apply batches at the rate of the load, with a compaction always under way."""
    index = headwater.index
    due = time.perf_counter()
    while not stop.is_set():
        # The same ads again, each time as newer versions.
        headwater.version += 1
        batch = batches[headwater.version % len(batches)]
        batch.versions[:] = headwater.version
        headwater.upsert(batch)
        if not index.compacting:
            index.start_compaction(0)
        index.maintain()
        due += WRITE_EVERY_S
        stop.wait(max(0.0, due - time.perf_counter()))


def _measure_restore(headwater: Headwater, folder: Path, rows: Rows) -> None:
    """CPU time to read a snapshot of all ads back until it is published."""
    snapshots.write(headwater.index, folder, {}, {})
    rows.clocked(
        "restore_s", headwater, partial(snapshots.load_latest, folder, headwater.index.settings)
    )


def _wall_s(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _cpu_s(work: Callable[[], Any]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def _compare(found: NDArray[np.int64], exact: NDArray[np.int64]) -> None:
    overlap = len(np.intersect1d(found, exact)) / max(1, min(len(found), len(exact)))
    if overlap < LEAST_OVERLAP:
        raise SystemExit(f"the systems disagree: {overlap:.3f} of the candidates are shared")


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows, each peer as a multiple of headwater."""
    own = {row["axis"]: row["value"] for row in rows if row["system"] == Headwater.name}
    for row in rows:
        spread = "" if row["spread"] is None else f" +- {row['spread']:.3f}"
        print(
            f"{row['axis']:28} {row['system']:12} {row['value'] / own[row['axis']]:8.2f}x "
            f"{row['value']:10.3f}{spread} {row['unit']}"
        )


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--ads", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=30, help="queries and upserts of each kind")
    options = parser.parse_args()
    rows = measure(options.ads, options.repeats)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""Search, update and size of the index beside peers that can be installed.

Two workloads: the Zipf ads of `benchmarks.workload`, and real ones with the
queries of the trained retriever. Every system finds the exact best 1000, while
1,000 ads have younger versions in a delta; headwater tests the delivery state
of what it finds besides. Times are CPU time on one core with warm caches, all
systems in turn. Rows are medians.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.rows import Row, Rows
from daemon.settings import Settings
from gpuindex import AdBatch, SearchThreads, snapshots
from gpuindex.postings import Postings

from . import command, pisa, real, table
from .observations import Observations, show
from .own_index import OwnIndex
from .peers import (
    GraphBlas,
    Mkl,
    QdrantEdge,
    ScipyDelta,
    ScipyGemmDelta,
    System,
    TorchScipy,
    best_of,
)
from .workload import K, Weighted, Workload, zipf

ADS = 1_000_000
REPEATS = 30
TURNS = 3
UPSERTS = 1_000

# For a first look: seconds instead of minutes, and no figures to quote.
QUICK_ADS = 50_000
QUICK_REPEATS = 3

# What the best that a system finds add up to, over the true best: all but headwater add in
# floating point, and what 6 bits of query weight cost at the cut is less than this.
LEAST_SHARE = 0.99

# Load beside which a query is measured: batches of 100 at 10,000 ads a second.
WRITE_ADS = 100
WRITE_EVERY_S = 0.01


@dataclass(frozen=True)
class Systems:
    """What is measured side by side; all scores are held against SciPy's."""

    own: OwnIndex
    scipy: ScipyDelta
    others: list[System]

    @property
    def all(self) -> list[System]:
        return [self.own, self.scipy, *self.others]


def measure(ads_count: int, repeats: int, retriever: Settings, pisa_python: Path | None) -> Rows:
    """All axes of both workloads."""
    observations = Observations()
    random = np.random.default_rng(0)
    _measure_zipf(zipf(ads_count, repeats, random), pisa_python, observations, random)
    if why := real.missing(retriever):
        print(f"axes of real data {why}")
    else:
        _measure_real(real.workload(retriever, ads_count, repeats), observations, random)
    return observations.rows()


def _measure_zipf(
    workload: Workload,
    pisa_python: Path | None,
    observations: Observations,
    random: np.random.Generator,
) -> None:
    """What is searched, how long its updates take, what it weighs."""
    heavy, light = workload.queries["heavy_ms"], workload.queries["light_ms"]
    with _systems(workload) as systems:
        own, scipy = systems.own, systems.scipy
        observations.add("bits_per_posting_weighted", own.name, own.bits())
        observations.add("bits_per_posting_weighted", scipy.name, scipy.bits())
        _measure_queries(systems, workload, "", observations, random)
        _measure_threads(own, heavy, observations)
        _measure_upserts(systems.all, workload, light, observations, random)
        _measure_under_writes(own, workload, heavy, observations, random)
        _measure_build(own, scipy, workload, observations)
        _measure_restore(own, observations)
    del systems, own, scipy
    unweighted = replace(workload, ads=workload.ads.unweighted())
    own = OwnIndex(unweighted)
    observations.add("bits_per_posting", own.name, own.bits())
    for query in [*heavy] * TURNS:
        observations.clocked("sparse_heavy_ms/unweighted", own, partial(own.sparse, query))
    if pisa_python:
        for axis, ads in (
            ("bits_per_posting_weighted", workload.ads),
            ("bits_per_posting", unweighted.ads),
        ):
            sizes = pisa.bits(ads, len(workload.keys), pisa_python)
            print(f"{axis} of PISA: {sizes}")
            observations.add(axis, "pisa", min(sizes.values()))


def _measure_real(
    workload: Workload, observations: Observations, random: np.random.Generator
) -> None:
    """The same ads in the order of their arrival, and as compaction puts them."""
    ordered = OwnIndex(workload)
    observations.add("bits_per_posting/reordered", ordered.name, ordered.bits())
    for query in [*workload.queries["heavy_ms"]] * TURNS:
        observations.clocked("sparse_heavy_ms/reordered", ordered, partial(ordered.sparse, query))
        observations.clocked("full_heavy_ms/reordered", ordered, partial(ordered.full, query))
    del ordered
    with _systems(workload, order_fields=()) as systems:
        for each in (systems.own, systems.scipy):
            observations.add("bits_per_posting/real", each.name, each.bits())
        _measure_queries(systems, workload, "/real", observations, random)


@contextmanager
def _systems(workload: Workload, **layout: Any) -> Iterator[Systems]:
    """All systems with the ads of a workload."""
    with TemporaryDirectory() as folder:
        qdrant = QdrantEdge(workload, Path(folder))
        yield Systems(
            own=OwnIndex(workload, **layout),
            scipy=ScipyDelta(workload),
            others=[ScipyGemmDelta(workload), qdrant, GraphBlas(workload), Mkl(workload)],
        )
        qdrant.shard.close()


def _measure_queries(
    systems: Systems,
    workload: Workload,
    variant: str,
    observations: Observations,
    random: np.random.Generator,
) -> None:
    """Every query of every kind, in turns, and whether all find the best."""
    # Younger versions of some ads, which every query has to find.
    young = workload.young(UPSERTS, random)
    for system in systems.all:
        system.upsert(system.prepared(young))
    own, scipy = systems.own, systems.scipy
    dense = (own, scipy, TorchScipy(scipy))
    for ending, asked in workload.queries.items():
        for turn in range(TURNS):
            for system in systems.all[turn:] + systems.all[:turn]:
                for query in asked:
                    axis = f"sparse_{ending}{variant}"
                    found = observations.clocked(axis, system, partial(system.sparse, query))
                    if turn == 0:
                        _check(system, found, _exact(scipy, query))
            for each in dense:
                for query in asked:
                    observations.clocked(f"full_{ending}{variant}", each, partial(each.full, query))


def _exact(scipy: ScipyDelta, query: Weighted) -> NDArray[np.float32]:
    """[A] float32, the score of every ad in its youngest version."""
    scores, delta = scipy.scores(query)
    scores[scipy.delta_ids] = delta
    exact: NDArray[np.float32] = scores
    return exact


def _check(system: System, found: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    """Whether the best ads were found, by their sum: of equals, any will do."""
    scores = np.maximum(scores, 0)
    best = float(scores[best_of(scores)].sum())
    if len(found) > K or float(scores[found].sum()) < LEAST_SHARE * best:
        raise SystemExit(f"{system.name} found {scores[found].sum()} of {best}")


def _measure_build(
    own: OwnIndex, scipy: ScipyDelta, workload: Workload, observations: Observations
) -> None:
    """Lists of all ads at once, compressed or not."""
    ads = workload.ads
    keep = np.ones(len(ads), np.uint8)
    inverted = (len(ads), ads.bounds, ads.features, ads.weights, keep, len(workload.keys))
    for _ in range(TURNS):
        observations.clocked("build_s", own, partial(Postings.built, *inverted))
        observations.clocked("build_s", scipy, partial(scipy.built, ads))


def _measure_threads(own: OwnIndex, asked: Sequence[Weighted], observations: Observations) -> None:
    """Wall time of a heavy query on one thread over that on two, and so for copying memory.

    One, two, two, one, the query and the copy in turn: what else the machine
    does is in all of them.
    """
    source = np.ones(64_000_000, np.uint8)
    copied = np.empty_like(source)
    halves = [slice(0, len(source) // 2), slice(len(source) // 2, None)]

    def copy(part: slice) -> None:
        copied[part] = source[part]

    def speedup(one: Callable[[], Any], two: Callable[[], Any]) -> float:
        times = [_wall_s(work) for work in (one, two, two, one)]
        return (times[0] + times[3]) / (times[1] + times[2])

    threads = SearchThreads(2)
    own.sparse(asked[0], threads)
    for query in [*asked] * TURNS:
        gain = speedup(partial(own.sparse, query), partial(own.sparse, query, threads))
        observations.add("two_core_speedup", own.name, gain)
        gain = speedup(partial(copy, slice(None)), partial(threads.map, copy, halves))
        observations.add("two_core_speedup", "memory_copy", gain)
    threads.close()


def _measure_upserts(
    systems: list[System],
    workload: Workload,
    light: Sequence[Weighted],
    observations: Observations,
    random: np.random.Generator,
) -> None:
    """The same new versions for all, from decoded to searchable, and to found."""
    for axis, count in (("upsert_1000_ms", UPSERTS), ("upsert_one_ms", 1), ("upsert_found_ms", 1)):
        young = [workload.young(count, random) for _ in light]
        for system in systems:
            for ads, query in zip(young, light, strict=True):
                prepared = system.prepared(ads)

                def work(system: System = system, ads: Any = prepared, query: Any = query) -> None:
                    system.upsert(ads)
                    if axis == "upsert_found_ms":  # noqa: B023 - called at once
                        system.sparse(query)

                observations.clocked(axis, system, work)
                system.tidy()


def _measure_under_writes(
    own: OwnIndex,
    workload: Workload,
    heavy: Sequence[Weighted],
    observations: Observations,
    random: np.random.Generator,
) -> None:
    """A heavy query's own CPU time while another thread writes, over that while none does."""
    batches = [own.prepared(workload.young(WRITE_ADS, random)) for _ in range(200)]
    for _ in range(TURNS):
        idle = [_thread_s(partial(own.sparse, query)) for query in heavy]
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(own, batches, stop))
        writer.start()
        written = [_thread_s(partial(own.sparse, query)) for query in heavy]
        stop.set()
        writer.join()
        for quiet, busy in zip(idle, written, strict=True):
            observations.add("query_under_writes_ratio", own.name, busy / quiet)


def _write(own: OwnIndex, batches: list[AdBatch], stop: threading.Event) -> None:
    """Apply batches at the rate of the load, with a compaction always under way."""
    index = own.index
    due = time.perf_counter()
    while not stop.is_set():
        # The same ads again, each time as newer versions.
        own.version += 1
        batch = batches[own.version % len(batches)]
        batch.versions[:] = own.version
        own.upsert(batch)
        if not index.compacting:
            index.start_compaction(0)
        index.maintain()
        due += WRITE_EVERY_S
        stop.wait(max(0.0, due - time.perf_counter()))


def _measure_restore(own: OwnIndex, observations: Observations) -> None:
    """CPU time to read a snapshot of all ads back until it is published."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        snapshots.write(own.index, folder, {}, {})
        load = partial(snapshots.load_latest, folder, own.index.settings)
        for _ in range(TURNS):
            observations.clocked("restore_s", own, load)


def _wall_s(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _thread_s(work: Callable[[], Any]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def main() -> None:
    """Measure, print, and write the rows."""
    parser = command.parser("index", __doc__, quick=f"{QUICK_ADS:,} ads")
    parser.add_argument("--ads", type=int, metavar="N", help=f"how many; {ADS:,} by default")
    parser.add_argument("--repeats", type=int, help="queries and upserts of each kind")
    parser.add_argument("--retriever", default=real.RETRIEVER, help="name of the checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path(".headwater"))
    parser.add_argument(
        "--pisa", type=Path, metavar="PYTHON", help="a Python that has pyterrier-pisa"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="only print README's table of the rows in FILE"
    )
    options = parser.parse_args()
    if options.table:
        written = [Row(**row) for row in json.loads(options.table.read_text())]
        print(table.markdown(written))
        return
    rows = measure(
        options.ads or (QUICK_ADS if options.quick else ADS),
        options.repeats or (QUICK_REPEATS if options.quick else REPEATS),
        real.settings_with(options.retriever, options.state_dir),
        options.pisa,
    )
    show(rows)
    gains = {row.system: row.value for row in rows.rows if row.axis == "two_core_speedup"}
    print(
        f"two cores: {gains['headwater']:.2f} times as fast, "
        f"{gains['headwater'] / gains['memory_copy']:.2f} of what copying memory gains"
    )
    if options.json:
        rows.write(options.json)


if __name__ == "__main__":
    main()

"""How evenly a query's postings are shared out among a GPU's blocks, without a GPU.

Ads with 30 Zipf-drawn features, repeated ones dropped, and queries of 200
features, heavy ones drawn as ads draw them. A query's U16 lists are given to
blocks of threads in three ways: a list each, a segment each (a list within
65,280 slots), or by merge-path over segments cut into pieces of powers of two,
which is what the CUDA kernel does. A launch lasts as long as its busiest block:
the figure is that block's postings over the mean, 1 at best. Counts, not times:
they are the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from daemon.rows import Rows
from gpuindex.kernels.cpu.encodings import BLOCK_SLOTS, ENCODING_MASK, U16
from gpuindex.kernels.cuda.balance import split
from gpuindex.kernels.cuda.score import CATEGORIES
from gpuindex.postings import Postings

from . import command

ADS = 200_000
QUICK_ADS = 20_000
FEATURES = 100_000
PER_AD = 30
PER_QUERY = 200
EXPONENT = 1.1

# What `device.Gpu` launches on a T4, of 40 multiprocessors, and a device 1/20 of it.
BLOCKS = (32, 640)
QUERIES = 20

Counts = NDArray[np.int64]


def drawn_as_ads_do(random: np.random.Generator) -> Counts:
    """[PER_QUERY] int64, distinct features of a heavy query."""
    drawn = zipf(1, 20 * PER_QUERY, random)[0]
    _, first = np.unique(drawn, return_index=True)
    distinct: Counts = drawn[np.sort(first)][:PER_QUERY]
    return distinct


def zipf(rows: int, count: int, random: np.random.Generator) -> Counts:
    """[rows, count] int64, features."""
    edges = np.cumsum(np.arange(1, FEATURES + 1, dtype=np.float64) ** -EXPONENT)
    drawn: Counts = np.searchsorted(edges, random.random((rows, count)) * edges[-1])
    return drawn.astype(np.int64)


def counted(ads: int, random: np.random.Generator) -> Counts:
    """[FEATURES, blocks of slots] int64, postings of every segment of a U16 list."""
    owners = np.arange(ads, dtype=np.int64)[:, None]
    postings = np.unique(owners * FEATURES + zipf(ads, PER_AD, random))
    of_ad, features = np.divmod(postings, FEATURES)
    made = Postings.built(
        ads,
        np.searchsorted(of_ad, np.arange(ads + 1)),
        features.astype(np.int32),
        random.integers(1, 256, len(features), dtype=np.uint8),
        np.ones(ads, np.uint8),
        FEATURES,
    )
    width = (ads - 1) // BLOCK_SLOTS + 1
    places = features * width + of_ad // BLOCK_SLOTS
    counts = np.bincount(places, minlength=FEATURES * width).reshape(FEATURES, width)
    kept_as_u16 = made.features[made.codes & ENCODING_MASK == U16]
    others = np.ones(FEATURES, np.bool_)
    others[kept_as_u16] = False
    counts[others] = 0
    return counts


def handed_out(work: Counts, blocks: int) -> Counts:
    """[blocks] postings, pieces of work taken in turn."""
    return np.bincount(np.arange(len(work)) % blocks, work, minlength=blocks).astype(np.int64)


def by_merge_path(segments: Counts, blocks: int) -> Counts:
    """[blocks] postings, an equal stretch of the path each; as the kernel cuts it."""
    sizes = np.arange(CATEGORIES)
    pieces = (segments[:, None] >> sizes & 1).sum(axis=0)
    ends = np.cumsum(pieces << sizes)
    steps = CATEGORIES + int(ends[-1])
    stretch = -(-steps // blocks)
    diagonals = [min(steps, stretch * block) for block in range(blocks + 1)]
    rows = split.py_func  # type: ignore[attr-defined]
    return np.diff([diagonal - rows(ends, CATEGORIES, diagonal) for diagonal in diagonals])


def ratios(counts: Counts, features: Counts, blocks: int) -> dict[str, float]:
    """Busiest over mean of each way, for one query."""
    named = counts[features]
    segments = named[named > 0]
    ways = {
        "per_list": handed_out(named.sum(axis=1)[named.any(axis=1)], blocks),
        "per_segment": handed_out(segments, blocks),
        "headwater": by_merge_path(segments, blocks),
    }
    return {name: float(work.max() / work.mean()) for name, work in ways.items()}


def measure(ads: int) -> Rows:
    """Count for queries of both kinds, and print the table."""
    random = np.random.default_rng(0)
    counts = counted(ads, random)
    queries = {
        "heavy": [drawn_as_ads_do(random) for _ in range(QUERIES)],
        "light": list(random.integers(0, FEATURES, (QUERIES, PER_QUERY))),
    }
    rows = Rows()
    print(f"{'query':<8}{'blocks':>8}{'per list':>12}{'per segment':>14}{'merge-path':>12}")
    for kind, drawn in queries.items():
        for blocks in BLOCKS:
            found = [ratios(counts, features, blocks) for features in drawn]
            by_way = {name: np.array([each[name] for each in found]) for name in found[0]}
            medians = {name: float(np.median(values)) for name, values in by_way.items()}
            print(
                f"{kind:<8}{blocks:>8}{medians['per_list']:>12.2f}"
                f"{medians['per_segment']:>14.2f}{medians['headwater']:>12.2f}"
            )
            for name, values in by_way.items():
                rows.add(
                    f"balance_{kind}_{blocks}",
                    medians[name],
                    "max/mean",
                    system=name,
                    spread=float(values.std() / np.sqrt(QUERIES)),
                    n=QUERIES,
                )
    return rows


def main() -> None:
    """Measure, print, and write the rows."""
    command.main_by_ads("balance", __doc__, measure, ads=ADS, quick_ads=QUICK_ADS)


if __name__ == "__main__":
    main()

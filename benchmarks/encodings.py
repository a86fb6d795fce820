"""What each encoding of a posting list costs in bytes and in query time.

Lists of one density, all in one encoding, in one shard; a query names them all
and is summed the wide way, as heavy queries are. From these times come the
constants of the price by which a list's encoding is chosen
(`gpuindex.kernels.cpu.encodings`); the encoding that it chooses is marked `<`.
"""

import time

import numpy as np
from numpy.typing import NDArray

from daemon.rows import Rows
from gpuindex.columns import AdColumns
from gpuindex.kernels.cpu import encodings
from gpuindex.kernels.cpu.score import score
from gpuindex.kernels.cpu.shards import BLOCK_SLOTS
from gpuindex.postings import Postings
from gpuindex.shard import Shard, shard_table

from . import command

ADS = 1_000_000
QUICK_ADS = 100_000
LISTS = 32
TURNS = 7
DENSITIES = (0.00002, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.8)


def drawn(ads: int, density: float, random: np.random.Generator) -> NDArray[np.int32]:
    """Random slots of a list, ascending."""
    return np.flatnonzero(random.random(ads) < density).astype(np.int32)


def encoded(lists: list[NDArray[np.int32]], code: int, ads: int) -> Postings:
    """Lists, features 0, 1 and on, all in the encoding given."""
    weight = 100 if code & encodings.WEIGHTED else encodings.FULL_WEIGHT
    pieces = []
    for slots in lists:
        weights = np.full(len(slots), weight, np.uint8)
        size = encodings.size_of(slots, code, ads)
        piece = np.zeros(-(-size // encodings.WORD_BYTES), np.int32)
        encodings.encode(slots, weights, ads, code, piece.ctypes.data)
        pieces.append(piece)
    return Postings(
        features=np.arange(len(lists), dtype=np.int32),
        starts=np.append(0, np.cumsum([len(piece) for piece in pieces])).astype(np.int32),
        codes=np.full(len(lists), code, np.uint8),
        data=np.concatenate(pieces),
    )


def query_ns(postings: Postings, ads: int, narrow_limit: int = 0) -> float:
    """Median CPU time of a list in a query that names all of them.

    Args:
        postings: the lists.
        ads: in their shard.
        narrow_limit: as in the kernel `score`; 0 for a heavy query.
    """
    shard = Shard("base", AdColumns.empty(ads, 0, 0), postings, folded=True)
    table = shard_table([(0, shard)])
    lists = len(postings.features)
    scores = np.empty(ads, np.int32)
    touched = np.empty(narrow_limit, np.int32)
    block_sums = np.zeros(BLOCK_SLOTS, np.int32)

    def asked(count: int) -> int:
        started = time.thread_time_ns()
        score(
            table,
            ads,
            0,
            np.zeros(1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.arange(count, dtype=np.int32),
            np.full(count, 40, np.int32),
            narrow_limit,
            np.zeros(lists, np.int32),
            np.empty((1, lists), np.int32),
            scores,
            touched,
            block_sums,
        )
        return time.thread_time_ns() - started

    taken = [asked(lists) - asked(0) for _ in range(TURNS)]
    return float(np.median(taken)) / lists


def measure(ads: int) -> Rows:
    """Time and size of every encoding at every density."""
    random = np.random.default_rng(0)
    rows = Rows()
    print(f"{'density':>8} {'encoding':>14} {'bits/posting':>13} {'ns/posting':>11} {'ns/ad':>7}")
    for density in DENSITIES:
        lists = [drawn(ads, density, random) for _ in range(LISTS)]
        postings = sum(len(slots) for slots in lists)
        for weighted in (encodings.WEIGHTED, 0):
            weight = 100 if weighted else encodings.FULL_WEIGHT
            chosen, _ = encodings.choose(lists[0], np.full(len(lists[0]), weight, np.uint8), ads)
            for encoding, name in enumerate(encodings.NAMES):
                code = encoding | weighted
                if encoding == encodings.BITMAP and weighted:
                    continue
                if encoding == encodings.DENSE and not weighted:
                    # Columns hold weights in any case.
                    code |= encodings.WEIGHTED
                kept = encoded(lists, code, ads)
                bits = 8 * kept.data.nbytes / postings
                taken = query_ns(kept, ads)
                variant = f"{name}/{'weighted' if weighted else 'plain'}"
                print(
                    f"{density:8} {variant:>14} {bits:13.2f} {taken * LISTS / postings:11.3f} "
                    f"{taken / ads:7.4f}{' <' if code == chosen else ''}"
                )
                rows.add(f"encoding_bits/{variant}/{density}", bits, "bits", n=TURNS)
                rows.add(f"encoding_list_ns/{variant}/{density}", taken, "ns", n=TURNS)
    return rows


def main() -> None:
    """Measure, print, and write the rows."""
    command.main_by_ads("encodings", __doc__, measure, ads=ADS, quick_ads=QUICK_ADS)


if __name__ == "__main__":
    main()

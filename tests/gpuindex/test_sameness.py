"""The same ads and the same query give the same bytes, however they are stored and searched."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from gpuindex import Candidates, IndexView, Query, SearchThreads
from gpuindex.kernels.cpu import encodings
from gpuindex.kernels.cpu.encodings import BLOCK_SLOTS, WEIGHTED
from gpuindex.postings import Postings
from gpuindex.shard import Shard, shard_table

# Every weight is 255, so that every encoding can hold every list.
PLAIN = (encodings.RAW, encodings.U16, encodings.U8, encodings.BITMAP)
CODES = (*PLAIN, *(code | WEIGHTED for code in PLAIN[:3]), encodings.DENSE | WEIGHTED)
DENSITIES = [0.0002, 0.001, 0.02, 0.09, 0.3, 0.8, 1.0]
ADS = 2 * BLOCK_SLOTS + 700


def recoded(shard: Shard, code: int) -> Shard:
    """A shard with all of its lists in one encoding."""
    pieces = []
    for place in range(len(shard.postings.features)):
        slots, weights = shard.postings.read(place, shard.ads)
        size = encodings.size_of(slots, code, shard.ads)
        piece = np.zeros(-(-size // encodings.WORD_BYTES), np.int32)
        encodings.encode(slots, weights, shard.ads, code, piece.ctypes.data)
        pieces.append(piece)
    postings = Postings(
        shard.postings.features,
        np.cumsum([0, *map(len, pieces)]).astype(np.int32),
        np.full(len(pieces), code, np.uint8),
        np.concatenate(pieces),
    )
    return dataclasses.replace(shard, postings=postings)


def in_code(view: IndexView, code: int) -> IndexView:
    """A view whose sealed lists are all in one encoding."""
    shards = [recoded(shard, code) for shard in view.shards]
    placed = list(zip(view.first_slots.tolist(), shards, strict=True))
    return dataclasses.replace(view, shards=tuple(shards), table=shard_table(placed))


def as_bytes(found: Candidates) -> tuple[bytes, bytes, float]:
    return found.ad_ids.tobytes(), found.scores.tobytes(), found.unit


@pytest.fixture
def known(catalog: Any) -> Any:
    """Ads with few distinct scores, so that order rests on the ad id too."""
    known = catalog.drawn(ADS, DENSITIES)
    known.weights[known.weights > 0] = 255
    known.embeddings[:] = known.embeddings // 64
    return known


@pytest.fixture
def queries(new_query: Any) -> list[Query]:
    """Light and heavy, sparse and full, of both sizes of weights."""
    return [
        new_query(features, mode, seed=features, query_bits=bits)
        for features in (2, len(DENSITIES))
        for mode in ("sparse", "full")
        for bits in (6, 12)
    ]


def test_answers_are_the_same_bytes_in_every_encoding_alone_batched_and_on_threads(
    known: Any, new_index: Any, queries: list[Query]
) -> None:
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    index.apply(known.batch(slice(0, ADS - 900)))
    index.seal()
    index.apply(known.batch(slice(ADS - 900, None)))
    view = index.publish()
    expected = [as_bytes(view.search(query, 500)) for query in queries]
    for code in CODES:
        other = in_code(view, code)
        assert [as_bytes(other.search(query, 500)) for query in queries] == expected
        assert [as_bytes(found) for found in other.search_batch(queries, 500)] == expected
        for count in (2, 3):
            threads = SearchThreads(count)
            on_threads = [other.search(query, 500, threads=threads) for query in queries]
            threads.close()
            assert [as_bytes(found) for found in on_threads] == expected


def test_answers_are_the_same_bytes_in_every_layout_of_shards(
    known: Any, new_index: Any, queries: list[Query]
) -> None:
    """From one tail to a shard for every few ads, and after they were folded in another order."""
    answers = []
    for pieces in (1, 2, 9):
        index = new_index(len(DENSITIES))
        index.apply_delivery(known.delivery())
        for rows in np.array_split(np.arange(ADS), pieces):
            index.apply(known.batch(slice(rows[0], rows[-1] + 1)))
            if pieces > 1:
                index.seal()
        for folded in (False, True):
            if folded:
                index.start_compaction(0)
                while index.compacting:
                    index.maintain()
            view = index.publish()
            answers.append([as_bytes(view.search(query, 500)) for query in queries])
    assert answers == [answers[0]] * len(answers)


@pytest.mark.parametrize("bits", [6, 12])
@pytest.mark.parametrize("signs", ["positive", "negative", "both"])
def test_the_greatest_sums_come_out_right_in_every_encoding(
    catalog: Any, new_index: Any, signs: str, bits: int
) -> None:
    """Every ad has every feature with all its weight, and the worst embedding and bias."""
    features = 41
    known = catalog.drawn(600, [1.0] * features)
    known.weights[:] = 255
    known.embeddings[:] = np.where(np.arange(600)[:, None] % 2, 127, -128)
    known.biases[:] = np.where(np.arange(600) % 3, 32.0, -32.0)
    index = new_index(features)
    index.apply_delivery(known.delivery())
    index.apply(known.batch(slice(None)))
    index.seal()
    view = index.publish()
    weights = np.ones(features, np.float32)
    if signs == "both":
        weights[::3] = -1
    for mode, share in (("sparse", 0.0), ("full", 1e-3), ("full", 1e4)):
        query = Query(
            feature_ids=np.arange(features, dtype=np.int32),
            weights=-weights if signs == "negative" else weights,
            vector=np.full(known.embeddings.shape[1], share, np.float32),
            embedding_scale=1.0,
            now_ms=5,
            seed=0,
            bias_weight=share,
            mode=mode,
            query_bits=bits,
        )
        expected = known.best(query, 600)
        for code in CODES:
            found = in_code(view, code).search(query, 600)
            assert (found.ad_ids.tolist(), found.scores.tolist()) == expected

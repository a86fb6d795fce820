"""Folding moves every posting of a living ad to its new slot, on every side."""

from typing import Any

import numpy as np
import pytest

from gpuindex.kernels.cpu.encodings import BLOCK_SLOTS
from gpuindex.postings import Postings


def folded(twins: Any, parts: list[Any], moved: Any, ads: int, enough: int) -> tuple[Any, int]:
    """The lists that folding makes, a slice at a time, and how many slices it took."""
    firsts = np.cumsum([0, *map(len, parts)]).tolist()[:-1]
    placed = [(first, part.shard()) for first, part in zip(firsts, parts, strict=True)]
    table, _held = twins.table(placed)
    feature = 0
    slices = []
    while feature >= 0:
        feature, *arrays = twins.fold(
            table, twins.put(moved.astype(np.int32)), ads, feature, enough
        )
        slices.append([twins.get(array) for array in arrays])
    features, sizes, codes, data = (np.concatenate(arrays) for arrays in zip(*slices, strict=True))
    starts = np.append(0, np.cumsum(sizes)).astype(np.int32)
    return Postings(features, starts, codes, data), len(slices)


def assert_folded(made: Postings, parts: list[Any], moved: Any, ads: int) -> None:
    matrix = np.zeros((ads, parts[0].matrix.shape[1]), np.int64)
    matrix[moved[moved >= 0]] = np.concatenate([part.matrix for part in parts])[moved >= 0]
    assert made.features.tolist() == np.flatnonzero(matrix.any(axis=0)).tolist()
    for listed, feature in enumerate(made.features):
        slots, weights = made.read(listed, ads)
        assert slots.tolist() == np.flatnonzero(matrix[:, feature]).tolist()
        assert weights.tolist() == matrix[slots, feature].tolist()


@pytest.mark.parametrize("enough", [1, 300, 10**9])
def test_living_ads_keep_their_features_at_their_new_slots(
    twins: Any, ads: Any, enough: int
) -> None:
    """Every encoding, in an order that is not the old one, in slices of any size."""
    random = np.random.default_rng(2)
    parts = [ads.in_every_encoding(1_300), ads.in_every_encoding(400, seed=1)]
    moved = np.full(1_700, -1)
    living = np.flatnonzero(random.random(1_700) < 0.8)
    moved[living] = random.permutation(len(living))
    made, slices = folded(twins, parts, moved, len(living), enough)
    assert_folded(made, parts, moved, len(living))
    counts = np.count_nonzero(np.concatenate([part.matrix for part in parts])[living], axis=0)
    assert slices == slices_of(counts, enough)


def slices_of(counts: Any, enough: int) -> int:
    """How often features of so many postings make enough; an empty one counts as one."""
    slices = 1
    postings = 0
    for count in counts.tolist():
        if postings >= enough:
            slices += 1
            postings = 0
        postings += max(count, 1)
    return slices


def test_nothing_is_left_of_shards_of_dead_ads(twins: Any, ads: Any) -> None:
    parts = [ads.drawn(40, [0.9, 0.02])]
    made, _ = folded(twins, parts, np.full(40, -1), 0, 1_000)
    assert len(made.features) == len(made.data) == 0


def test_slots_of_every_block_are_moved(twins: Any, ads: Any) -> None:
    matrix = np.zeros((BLOCK_SLOTS + 200, 2), np.int64)
    matrix[[0, BLOCK_SLOTS - 1, BLOCK_SLOTS, BLOCK_SLOTS + 1], 0] = [1, 2, 3, 4]
    matrix[BLOCK_SLOTS - 90 : BLOCK_SLOTS + 90 : 3, 1] = 255
    parts = [ads.of(matrix)]
    moved = np.arange(len(matrix)) - 1
    made, _ = folded(twins, parts, moved, len(matrix) - 1, 1_000)
    assert_folded(made, parts, moved, len(matrix) - 1)


def test_slots_are_labelled_by_the_greatest_of_the_features_that_their_ads_have(
    twins: Any, ads: Any
) -> None:
    """Lists of every encoding; a feature that no shard has labels nothing."""
    parts = [ads.in_every_encoding(1_300), ads.in_every_encoding(400, seed=1)]
    matrix = np.concatenate([part.matrix for part in parts])
    table, _held = twins.table([(0, parts[0].shard()), (1_300, parts[1].shard())])
    unheard = matrix.shape[1]
    features = np.append(np.arange(0, unheard, 2), unheard).astype(np.int32)
    labels = twins.get(twins.label(table, len(matrix), twins.put(features)))
    has = np.hstack((matrix[:, features[:-1]] > 0, np.zeros((len(matrix), 1), np.bool_)))
    greatest = len(features) - 1 - has[:, ::-1].argmax(axis=1)
    assert labels.tolist() == np.where(has.any(axis=1), greatest, len(features)).tolist()
    assert labels.dtype == np.int32


def test_no_features_label_every_slot_alike(twins: Any, ads: Any) -> None:
    table, _held = twins.table([(0, ads.drawn(70, [0.5]).shard())])
    labels = twins.get(twins.label(table, 70, twins.put(np.zeros(0, np.int32))))
    assert labels.tolist() == [0] * 70


@pytest.mark.parametrize("count", [0, 1, 500])
def test_slots_of_one_label_stay_in_the_order_given(twins: Any, count: int) -> None:
    random = np.random.default_rng(5)
    slots = random.permutation(600)[:count].astype(np.int32)
    labels = random.integers(0, 7, 600).astype(np.int32)
    ordered = twins.get(twins.sort_by_label(twins.put(slots), twins.put(labels), 7))
    assert ordered.tolist() == slots[np.argsort(labels[slots], kind="stable")].tolist()
    assert ordered.dtype == np.int32

"""Marks stand at exactly the slots whose ads carry a feature, on every side."""

from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize(("before", "value"), [(0, 1), (1, 0), (7, 255)])
@pytest.mark.parametrize("wanted", [[], [0], [1, 4, 7, 99], list(range(11))], ids=str)
def test_every_slot_that_carries_a_wanted_feature_is_marked_and_no_other(
    twins: Any, ads: Any, before: int, value: int, wanted: list[int]
) -> None:
    """Neighbouring slots share a word, and an ad with two wanted features is marked twice."""
    parts = [ads.in_every_encoding(1_300), ads.in_every_encoding(400, seed=1)]
    features = parts[0].matrix.shape[1]
    tail = ads.drawn(43, [0.2] * features)
    matrix = np.concatenate([*(part.matrix for part in parts), tail.matrix])
    table, _held = twins.table([(0, parts[0].shard()), (1_300, parts[1].shard())])
    marks = twins.put(np.full(1_792, before, np.uint8))
    twins.mark(
        table,
        1_700,
        len(tail),
        twins.put(tail.bounds),
        twins.put(tail.features),
        twins.put(np.array(wanted, np.int32)),
        value,
        marks,
    )
    known = [feature for feature in wanted if feature < features]
    carries = np.append(matrix[:, known].any(axis=1), np.zeros(1_792 - len(matrix), np.bool_))
    assert twins.get(marks).tolist() == np.where(carries, value, before).tolist()

"""Claims about crossed ids: one for a pair, none where a half is missing."""

from __future__ import annotations

import numpy as np

from model.ranker.crossing import cross


def test_each_pair_of_values_has_an_id_of_its_own() -> None:
    random = np.random.default_rng(0)
    contexts, items = random.integers(1, 2**63 - 1, (2, 300))
    ids = cross(*np.meshgrid(contexts, items))
    assert ids.min() > 0
    assert len(np.unique(ids)) == ids.size


def test_small_ids_do_not_meet_either() -> None:
    ids = cross(*np.meshgrid(np.arange(1, 400), np.arange(1, 400)))
    assert len(np.unique(ids)) == ids.size


def test_a_missing_half_crosses_to_missing() -> None:
    assert not cross(np.array([0, 5, 0]), np.array([7, 0, 0])).any()

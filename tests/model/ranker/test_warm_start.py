"""Claims about the warm start: items of the same users are near, and only known items move."""

from __future__ import annotations

import numpy as np
import torch

from model.ranker.embedding import SharedEmbedding
from model.ranker.warm_start import MIN_USERS, WARM_STD, warm_start

WIDTH, ITEMS, USERS = 4, 40, 200


def purchases() -> tuple[np.ndarray, np.ndarray]:
    """Two tastes: users of one buy the first half of the items, users of the other the second."""
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(USERS), 15)
    items = random.integers(0, ITEMS // 2, len(owners)) + (owners % 2) * (ITEMS // 2)
    return owners, items + 1


def warmed(owners: np.ndarray, items: np.ndarray, seed: int = 0) -> SharedEmbedding:
    torch.manual_seed(seed)
    table = SharedEmbedding(rows=101, width=WIDTH)
    warm_start(table, owners, items)
    return table


def test_items_of_the_same_users_are_nearer_than_others() -> None:
    rows = warmed(*purchases()).weight.detach()[2 : ITEMS + 2]
    rows = torch.nn.functional.normalize(rows, dim=-1)
    alike = rows @ rows.T
    half = ITEMS // 2
    within = (alike[:half, :half].mean() + alike[half:, half:].mean()) / 2
    assert within > alike[:half, half:].mean() + 0.5


def test_warm_rows_are_of_the_stated_scale() -> None:
    rows = warmed(*purchases()).weight[2 : ITEMS + 2]
    torch.testing.assert_close(rows.square().mean(-1).sqrt(), torch.full((ITEMS,), WARM_STD))


def test_missing_and_rare_items_keep_their_rows() -> None:
    owners, items = purchases()
    torch.manual_seed(0)
    cold = SharedEmbedding(rows=101, width=WIDTH).weight.detach()
    owners = np.concatenate([owners, np.arange(MIN_USERS - 1), np.arange(50)])
    items = np.concatenate([items, np.full(MIN_USERS - 1, 77), np.zeros(50, np.int64)])
    rows = warmed(owners, items).weight.detach()
    assert torch.equal(rows[78], cold[78])
    assert not rows[0].any()


def test_too_little_data_leaves_the_table_cold() -> None:
    torch.manual_seed(0)
    cold = SharedEmbedding(rows=101, width=WIDTH).weight.detach()
    assert torch.equal(warmed(np.arange(9), np.arange(1, 10)).weight.detach(), cold)
    assert torch.equal(warmed(np.zeros(0, int), np.zeros(0, int)).weight.detach(), cold)

"""Claims about Hard Matching Attention: one row per (pair, count), capped, never aliased."""

from __future__ import annotations

import torch

from model.ranker.hma import HardMatchingAttention


def test_no_two_pairs_share_a_row() -> None:
    """With a stride of M, pair 0's cap would be pair 1's zero, and the last cap out of bounds."""
    hma = HardMatchingAttention(pairs=3, cap=4, width=2)
    counts = torch.arange(5)[:, None].expand(5, 3)
    rows = hma.rows(counts)
    assert rows.unique().numel() == rows.numel() == len(hma.table)
    assert rows.max() == len(hma.table) - 1


def test_counts_beyond_the_cap_read_the_cap() -> None:
    hma = HardMatchingAttention(pairs=2, cap=4, width=3)
    assert torch.equal(hma(torch.tensor([[4, 9]])), hma(torch.tensor([[1_000, 4]])))
    assert not torch.equal(hma(torch.tensor([[3, 9]])), hma(torch.tensor([[4, 9]])))


def test_pairs_are_concatenated_in_their_order() -> None:
    hma = HardMatchingAttention(pairs=2, cap=1, width=3)
    out = hma(torch.tensor([[1, 0]]))
    assert torch.equal(out, torch.cat([hma.table[1], hma.table[2]])[None])

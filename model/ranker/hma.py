"""Hard Matching Attention: how often the history holds the candidate's own values.

Owns the embedding of exact match counts (GESR, arXiv 2511.21095, the explicit cross-signal
part). Promises that no two (pair, count) share a row. The counts come from ``matches``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .embedding import INITIAL_STD


class HardMatchingAttention(nn.Module):
    """c = min(matches, M) per pair, e = E[c + pair x (M + 1)], all pairs concatenated.

    Counts 0..M are M + 1 values, so a pair owns M + 1 rows: with a stride of M a pair's cap
    would read the next pair's zero.
    """

    def __init__(self, pairs: int, cap: int, width: int) -> None:
        """Args: P pairs, M the cap, width of one row."""
        super().__init__()
        self.cap = cap
        self.table = nn.Parameter(torch.empty(pairs * (cap + 1), width).normal_(std=INITIAL_STD))
        self.first: Tensor
        self.register_buffer("first", torch.arange(pairs) * (cap + 1), persistent=False)
        self.out_features = pairs * width

    def rows(self, counts: Tensor) -> Tensor:
        """[..., P] int64 uncapped counts -> [..., P] rows of the table."""
        rows: Tensor = counts.clamp(max=self.cap) + self.first
        return rows

    def forward(self, counts: Tensor) -> Tensor:
        """[..., P] int64 uncapped counts -> [..., P x width]."""
        return nn.functional.embedding(self.rows(counts), self.table).flatten(-2)

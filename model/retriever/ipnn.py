"""IPNN: weighted field interactions as extra dimensions of the two towers.

Owns the factorised interaction weights W = P Q^T (arXiv 2511.22460 concatenates weighted sums of
field interactions onto both towers; rank and factorisation are choices made here). Promises
    sum_ij W_ij <user_i, ad_j> = <user(E_u), ad(E_a)>,
so that one inner product serves towers and interactions alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ipnn(nn.Module):
    """Interactions of m user fields with n ad fields, k wide, through r weighted sums."""

    def __init__(self, user_fields: int, ad_fields: int, rank: int) -> None:
        super().__init__()
        self.user_weights = nn.Parameter(torch.randn(user_fields, rank) * 0.3)
        self.ad_weights = nn.Parameter(torch.randn(ad_fields, rank) * 0.3)

    def user(self, fields: Tensor) -> Tensor:
        """[B, m, k] user field embeddings to [B, r * k] extra dimensions."""
        return torch.einsum("bmk,mr->brk", fields, self.user_weights).flatten(1)

    def ad(self, fields: Tensor) -> Tensor:
        """[A, n, k] ad field embeddings to [A, r * k] extra dimensions."""
        return torch.einsum("ank,nr->ark", fields, self.ad_weights).flatten(1)

    def weights(self) -> Tensor:
        """[m, n] interaction weights W."""
        return self.user_weights @ self.ad_weights.T

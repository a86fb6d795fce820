"""Towers: field embeddings of users and of ads to one vector each.

Owns the embedding tables and the perceptrons above them. Promises that neither side reads the
other, so that ads are embedded once, when they arrive.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Small enough that the first products are below the statistics' weights, which need no learning
# of tables to be useful.
_TABLE_STD = 0.05


def table(rows: int, width: int) -> nn.Embedding:
    """An embedding table with small random rows."""
    embedding = nn.Embedding(rows, width)
    nn.init.normal_(embedding.weight, 0.0, _TABLE_STD)
    return embedding


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, layer norm, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, outputs)
    )


class UserTower(nn.Module):
    """Profile, context and pooled history of B users."""

    def __init__(
        self,
        rows: int,
        profile_rows: int,
        fields: int,
        profile_fields: int,
        width: int,
        hidden: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.fields = fields
        self.history = table(rows, width)
        self.profile = table(profile_rows, width)
        self.perceptron = perceptron((fields + profile_fields) * width, hidden, outputs)

    def embed(
        self, profile_rows: Tensor, users: Tensor, fields: Tensor, rows: Tensor, weights: Tensor
    ) -> Tensor:
        """Embed profiles and pool histories by field.

        A field's pool is the weighted sum of its values' rows over the root of the weights' sum:
        longer histories are surer, but not in proportion.

        Args:
            profile_rows: [B, U + C] int64 rows of the profile table.
            users: [K] int64 user 0..B-1 of each met value.
            fields: [K] int64 item field of each.
            rows: [K] int64 vocabulary row of each.
            weights: [K] float32 weight of each, >= 0.

        Returns:
            [B, U + C + F, k] float32.
        """
        profile = self.profile(profile_rows)
        count, width = len(profile), profile.shape[2]
        at = users * self.fields + fields
        pool = profile.new_zeros(count * self.fields, width)
        pool = pool.index_add(0, at, self.history(rows) * weights[:, None])
        total = weights.new_zeros(count * self.fields).index_add(0, at, weights)
        pool = pool / (total + 1e-3).sqrt()[:, None]
        return torch.cat((profile, pool.view(count, self.fields, width)), dim=1)

    def forward(self, embedded: Tensor) -> Tensor:
        """[B, U + C + F, k] field embeddings to [B, outputs]."""
        out: Tensor = self.perceptron(embedded.flatten(1))
        return out


class AdTower(nn.Module):
    """Fields and priors of A ads."""

    def __init__(
        self, rows: int, fields: int, width: int, priors: int, hidden: int, outputs: int
    ) -> None:
        super().__init__()
        self.ads = table(rows, width)
        self.perceptron = perceptron(fields * (width + priors), hidden, outputs)

    def embed(self, rows: Tensor) -> Tensor:
        """[A, F] vocabulary rows to [A, F, k] field embeddings."""
        out: Tensor = self.ads(rows)
        return out

    def forward(self, embedded: Tensor, priors: Tensor) -> Tensor:
        """[A, F, k] field embeddings and [A, F, N] priors to [A, outputs]."""
        out: Tensor = self.perceptron(torch.cat((embedded.flatten(1), priors.flatten(1)), dim=1))
        return out

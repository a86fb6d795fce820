"""The table that RO and NRO sources share, and the fusion of fields into tokens.

Owns every embedding of a raw id (GESR's unified learned item embedding, arXiv 2511.21095) and
the quantiles of derived signals. Promises that one value has one row, whichever side it comes from,
and that the missing value is zero and stays zero.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

# Wide enough for a linear layer to tell values apart at the start, small beside the biases.
INITIAL_STD = 0.05
ACTION_WIDTH = 8
# Quantiles looked at for each bin.
FINE = 8
# The normal scores of the outermost edges are then 3, not infinite.
MAX_RANK = 0.9973


class SharedEmbedding(nn.Module):
    """Rows for hashed raw ids; row 0 is the missing value."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = rows
        self.weight = nn.Parameter(torch.empty(rows, width).normal_(std=INITIAL_STD))
        with torch.no_grad():
            self.weight[0] = 0.0

    def forward(self, raw_ids: Tensor) -> Tensor:
        """[...] int64 raw ids, 0 = missing -> [..., width]."""
        return nn.functional.embedding(self.place(raw_ids), self.weight, padding_idx=0)

    def place(self, raw_ids: Tensor) -> Tensor:
        """The row of each raw id; two ids may share one, but never row 0."""
        return torch.where(raw_ids == 0, 0, 1 + raw_ids % (self.rows - 1))


class TokenFuse(nn.Module):
    """Fields, action and value of one event or candidate become one token of width D.

    A candidate has no action yet: it carries a learned placeholder of its own, so that
    nothing about its outcome can leak, and value 0.
    """

    def __init__(
        self,
        fields: int,
        field_width: int,
        actions: int,
        width: int,
        fuse: Literal["concat", "sum"],
    ) -> None:
        """Args: F item fields of width E, number of action ids, D, and how fields join."""
        super().__init__()
        self.sum = fuse == "sum"
        self.placeholder = actions
        self.actions = nn.Embedding(actions + 1, ACTION_WIDTH)
        joined = field_width if self.sum else fields * field_width
        self.project = nn.Linear(joined + ACTION_WIDTH + 1, width)

    def events(self, fields: Tensor, actions: Tensor, values: Tensor) -> Tensor:
        """[..., F, E] embeddings, [...] int64 action ids, [...] values -> [..., D]."""
        # Money is heavy-tailed and may be negative (a return).
        value = torch.sign(values) * torch.log1p(values.abs())
        return self._fuse(fields, self.actions(actions), value)

    def candidates(self, fields: Tensor) -> Tensor:
        """[..., F, E] embeddings -> [..., D]."""
        action = self.actions.weight[self.placeholder].expand(*fields.shape[:-2], -1)
        return self._fuse(fields, action, fields.new_zeros(fields.shape[:-2]))

    def _fuse(self, fields: Tensor, action: Tensor, value: Tensor) -> Tensor:
        joined = fields.sum(-2) if self.sum else fields.flatten(-2)
        token: Tensor = self.project(torch.cat([joined, action, value[..., None]], -1))
        return token


class QuantileSignals(nn.Module):
    """Derived signals by their quantiles: each one's normal score beside an embedding.

    The edges of a signal's bins are quantiles of what training has seen. Both the score and the
    embedding are interpolated between edges, so that neither jumps, and NaN, no signal, has a
    row of its own. Until ``fit`` every signal reads as its least.
    """

    def __init__(self, signals: int, bins: int, width: int) -> None:
        """Args: R signals, K bins each, E the width of an embedding."""
        super().__init__()
        self.bins = bins
        self.table = nn.Parameter(torch.empty(signals * (bins + 2), width).normal_(std=INITIAL_STD))
        self.edges: Tensor
        self.scores: Tensor
        self.first: Tensor
        self.register_buffer("edges", torch.full((signals, bins + 1), torch.inf))
        self.register_buffer("scores", torch.zeros(signals, bins + 1))
        self.register_buffer("first", torch.arange(signals) * (bins + 2), persistent=False)
        self.out_features = signals * (width + 1)

    def fit(self, signals: npt.NDArray[np.floating]) -> None:
        """Place the edges. signals: [N, R] of the training rows, NaN where there is none."""
        for r, column in enumerate(signals.T):
            there = column[~np.isnan(column)]
            if not len(there):
                continue
            # Of many quantiles the distinct ones: a value that most rows have takes one edge.
            fine = np.unique(np.quantile(there, np.linspace(0.0, 1.0, FINE * self.bins + 1)))
            at = np.linspace(0, len(fine) - 1, min(self.bins + 1, len(fine))).round().astype(int)
            edges = torch.from_numpy(fine[at].astype(np.float32))
            ranks = torch.linspace(-1.0, 1.0, len(edges)) * MAX_RANK
            self.edges[r] = torch.inf
            self.edges[r, : len(edges)] = edges
            self.scores[r] = 0.0
            self.scores[r, : len(edges)] = math.sqrt(2.0) * torch.erfinv(ranks)

    def forward(self, signals: Tensor) -> Tensor:
        """[..., R] -> [..., R x (width + 1)]."""
        shape, x = signals.shape, signals.flatten(0, -2).T.contiguous()  # [R, N]
        missing = x.isnan()
        edges = self.edges.to(x.dtype)
        below = torch.searchsorted(edges, torch.nan_to_num(x), right=True) - 1
        last = edges.isfinite().sum(-1, keepdim=True) - 1
        below = below.clamp(min=0).minimum(last.clamp(min=0))
        above = (below + 1).minimum(last.clamp(min=0))
        low, high = edges.gather(1, below), edges.gather(1, above)
        share = ((x - low) / (high - low)).nan_to_num(0.0, 0.0, 0.0).clamp(0.0, 1.0)
        scores = self.scores.to(x.dtype)
        score = torch.lerp(scores.gather(1, below), scores.gather(1, above), share)
        score = score.masked_fill(missing, 0.0).T.view(shape)

        below = below.masked_fill(missing, self.bins + 1).T.view(shape) + self.first
        above = above.masked_fill(missing, self.bins + 1).T.view(shape) + self.first
        embedded = torch.lerp(
            nn.functional.embedding(below, self.table),
            nn.functional.embedding(above, self.table),
            share.T.view(shape)[..., None],
        )
        return torch.cat([embedded.flatten(-2), score], -1)

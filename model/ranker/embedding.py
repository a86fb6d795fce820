"""The table that RO and NRO sources share, and the fusion of fields into tokens.

Owns every embedding of a raw id (GESR's unified learned item embedding, arXiv 2511.21095) and
the bins of derived signals. Promises that one value has one row, whichever side it comes from,
and that the missing value is zero and stays zero.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

# Wide enough for a linear layer to tell values apart at the start, small beside the biases.
INITIAL_STD = 0.05
ACTION_WIDTH = 8
# Brings the base-2 logarithm of a usual signal (0 to 8) to about unit variance.
LOG_SCALE = 0.25


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


class BinnedSignals(nn.Module):
    """Derived signals: each a logarithmic bin's embedding beside its logarithm.

    A signal is a number >= 0, or -1 where it does not exist: that is a bin of its own.
    """

    def __init__(self, signals: int, bins: int, width: int) -> None:
        super().__init__()
        self.bins = bins
        self.table = nn.Parameter(torch.empty(signals * bins, width).normal_(std=INITIAL_STD))
        self.first: Tensor
        self.register_buffer("first", torch.arange(signals) * bins, persistent=False)
        self.out_features = signals * (width + 1)

    def forward(self, signals: Tensor) -> Tensor:
        """[..., R] -> [..., R x (width + 1)]."""
        log = torch.log2(1.0 + signals.clamp(min=0.0))
        # Half octaves: 24 bins reach 2,900, beyond which a signal is as good as endless.
        bins = torch.where(signals < 0, 0, 1 + (2.0 * log).long().clamp(max=self.bins - 2))
        embedded = nn.functional.embedding(bins + self.first, self.table)
        # The bins carry the shape, the logarithm the trend within one.
        return torch.cat([embedded.flatten(-2), log * LOG_SCALE], -1)

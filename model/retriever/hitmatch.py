"""HitMatch: a learned weight for each feature value that a user met.

Owns the functions from a value's statistics to its weight, one per item field (arXiv 2511.22460
leaves the statistics open). Promises a weight for values outside every vocabulary too. Summing
weights over the ads that carry a value is the index's work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HitMatch(nn.Module):
    """A small network per field: statistics and priors of a value to one weight."""

    def __init__(self, fields: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(fields, inputs, hidden) / inputs**0.5)
        self.first_bias = nn.Parameter(torch.zeros(fields, hidden))
        self.second = nn.Parameter(torch.randn(fields, hidden) * 0.1)
        self.second_bias = nn.Parameter(torch.zeros(fields))

    def forward(self, inputs: Tensor, fields: Tensor) -> Tensor:
        """Weigh values.

        Args:
            inputs: [K, inputs] float32, standardised.
            fields: [K] int64 item field of each value.

        Returns:
            [K] float32 weights.
        """
        weights = inputs.new_zeros(len(inputs))
        for field in range(len(self.first)):
            at = torch.nonzero(fields == field)[:, 0]
            if len(at):
                hidden = torch.relu(inputs[at] @ self.first[field] + self.first_bias[field])
                weight = hidden @ self.second[field] + self.second_bias[field]
                weights = weights.index_add(0, at, weight.to(weights.dtype))
        return weights

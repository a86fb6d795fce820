"""Multiple logits with parameterised gating (MLPG): the overarch's sum of branches.

Owns the branches and their gates (GESR, arXiv 2511.21095). Promises that every gate is reported
beside the logits, because a gate that stays at one half is idle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MainBranch(nn.Module):
    """The main logits: a plain MLP over the user-item interaction."""

    def __init__(self, width: int, hidden: int, tasks: int, dropout: float) -> None:
        super().__init__()
        self.mlp = _mlp(width, hidden, tasks, dropout)

    def forward(self, z: Tensor) -> Tensor:
        """[..., width] -> [..., tasks]."""
        logits: Tensor = self.mlp(z)
        return logits


class GatedBranch(nn.Module):
    """Amplified logits: MLP([gate(z) * inner(z), z]), one gate per example and dimension."""

    def __init__(self, width: int, hidden: int, tasks: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.mlp = _mlp(2 * width, hidden, tasks, dropout)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """[..., width] -> logits [..., tasks], gate [..., width] in (0, 1)."""
        gate = torch.sigmoid(self.gate(z))
        return self.mlp(torch.cat([gate * self.inner(z), z], -1)), gate


class Mlpg(nn.Module):
    """Main logits plus one amplified logit vector per gated input, summed."""

    def __init__(
        self, main: int, gated: list[int], hidden: int, tasks: int, dropout: float = 0.0
    ) -> None:
        """Args: width of the main input, of each gated input, of hidden layers; task count."""
        super().__init__()
        self.main = MainBranch(main, hidden, tasks, dropout)
        self.gated = nn.ModuleList(GatedBranch(width, hidden, tasks, dropout) for width in gated)

    def forward(self, main: Tensor, gated: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """[..., main] and one [..., width] per branch -> logits [..., tasks], gates."""
        logits = self.main(main)
        gates = []
        for branch, z in zip(self.gated, gated, strict=True):
            amplified, gate = branch(z)
            logits = logits + amplified
            gates.append(gate)
        return logits, gates


def _mlp(width: int, hidden: int, tasks: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, tasks)
    )

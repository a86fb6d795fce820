"""GESR: one ranker from sources to logits, read top-down.

Owns the graph of the model (Generative Early Stage Ranking, arXiv 2511.21095): the MoA block,
the two towers beside it, the MLPG overarch with one logit per task, and beside it the share of the
retriever's score. Promises that a candidate's logits depend on nothing of the other candidates.
Calibration is ``calibration``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import TASKS, RankerConfig
from .inputs import Inputs
from .mlpg import Mlpg
from .moa import MixtureOfAttentions
from .signals import names
from .trust import Trust


@dataclass(frozen=True)
class Scores:
    """Logits of a batch, and how far each gated branch was open.

    Attributes:
        logits: [V, G, tasks] float, uncalibrated.
        gates: one [V, G, width] in (0, 1) per gated branch.
    """

    logits: Tensor
    gates: list[Tensor]


class Gesr(nn.Module):
    """MoA + towers -> MLPG -> task logits."""

    def __init__(self, config: RankerConfig, actions: int) -> None:
        """Args: the configuration, and the number of action ids (0, unknown, included)."""
        super().__init__()
        self.config = config
        moa, width, tower = config.moa, config.moa.width, config.tower_width
        user_width = (len(moa.profile) + len(moa.context)) * moa.field_width
        item_width = len(moa.item) * moa.field_width
        self.moa = MixtureOfAttentions(config, actions)
        self.user_tower = _tower(user_width, config.overarch_width, tower)
        self.item_tower = _tower(item_width, config.overarch_width, tower)
        self.overarch = Mlpg(
            main=3 * tower + 2 * width + (0 if config.parts.gates else 4 * width),
            gated=[2 * width, 4 * width] if config.parts.gates else [],
            hidden=config.overarch_width,
            tasks=len(TASKS),
            dropout=config.dropout,
        )

        self.trust = None
        if moa.retrieved and config.parts.signals:
            self.trust = Trust(names(moa).index("retrieval"), len(TASKS))

    def forward(self, inputs: Inputs) -> Scores:
        """Score every candidate of every visit."""
        moa = self.moa(inputs)

        user = self.user_tower(moa.profile)[:, None]  # [V, 1, tower]
        item = self.item_tower(moa.item_fields)  # [V, G, tower]
        user = user.expand_as(item)
        summary = moa.summary[:, None].expand_as(moa.item)  # [V, G, D]

        interaction = torch.cat([user, item, user * item, moa.match, moa.item], -1)
        joint = torch.cat([moa.target, moa.match, summary], -1)
        if not self.config.parts.gates:
            # The main logits then read what the amplified ones would have.
            interaction = torch.cat([interaction, joint], -1)
        gated = [moa.target, joint] if self.config.parts.gates else []
        logits, gates = self.overarch(interaction, gated)
        if self.trust is not None:
            logits = logits + self.trust(inputs.signals)
        return Scores(logits, gates)


def _tower(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, out), nn.LayerNorm(out)
    )

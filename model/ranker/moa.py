"""MoA, the mixture of attentions: sources become five embeddings per (request, candidate).

Owns the selection of sources, their one shared table, and the three kinds of attention that
read them (GESR, arXiv 2511.21095, MoA configuration). Promises that RO outputs depend on
nothing of a candidate, and that each NRO output depends on no other candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import MoaConfig, RankerConfig
from .cross_attention import CandidateAttention, RequestAttention
from .embedding import BinnedSignals, SharedEmbedding, TokenFuse
from .hma import HardMatchingAttention
from .hstu import Hstu, Windows
from .inputs import Inputs
from .matches import RHYTHM


@dataclass(frozen=True)
class MoaOutput:
    """V visits, G candidates, D width.

    Attributes:
        profile: RO, [V, (U + C) x E]: user-profile embedding.
        summary: RO, [V, D]: history summary of the RO cross-attention.
        item: NRO, [V, G, D]: the unified item embedding.
        item_fields: NRO, [V, G, F x E]: its fields, for the item tower.
        match: NRO, [V, G, D]: explicit cross signals, T_match.
        target: NRO, [V, G, 2 x D]: target-aware user embedding, self- and cross-attention.
    """

    profile: Tensor
    summary: Tensor
    item: Tensor
    item_fields: Tensor
    match: Tensor
    target: Tensor


class MixtureOfAttentions(nn.Module):
    """The MoA block of GESR."""

    def __init__(self, config: RankerConfig, actions: int) -> None:
        """Args: the configuration, and the number of action ids (0, unknown, included)."""
        super().__init__()
        moa, width = config.moa, config.moa.width
        self.moa = moa
        self.memory = config.hstu.context
        self.window = config.hstu.window
        self.ro_query = _positions(moa.ro_query, moa.profile + moa.context)
        self.nro_query = _positions(moa.nro_query, moa.item)
        # An event's fields stand where the candidate's same fields stand, so that both become
        # tokens by one projection.
        self.history_fields = _positions(moa.history, moa.item)

        self.embedding = SharedEmbedding(moa.table_rows, moa.field_width)
        self.fuse = TokenFuse(len(moa.item), moa.field_width, actions, width, moa.fuse)
        self.hma = HardMatchingAttention(len(moa.pairs), moa.match_rows, moa.match_width)
        self.signals = BinnedSignals(signal_count(moa), moa.signal_bins, moa.signal_width)
        explicit = self.hma.out_features + len(moa.pairs) + self.signals.out_features
        self.match = nn.Sequential(
            nn.Linear(explicit, config.overarch_width),
            nn.SiLU(),
            nn.Linear(config.overarch_width, width),
            nn.SiLU(),
        )
        self.match_into_token = nn.Linear(width, width) if moa.hma_into_attention else None
        self.hstu = Hstu(width, config.hstu)
        self.request_attention = RequestAttention(config.seeds, moa.field_width, width)
        self.candidate_attention = CandidateAttention(moa.field_width, width)

    def forward(self, inputs: Inputs) -> MoaOutput:
        """All sources of a batch -> the five embeddings."""
        # RO sources: profile, context and history.
        users = self.embedding(torch.cat([inputs.profile, inputs.context], -1))  # [V, U + C, E]
        events = self.fuse.events(
            self._event_fields(inputs.history), inputs.actions, inputs.values
        )  # [B, S, D]

        # NRO sources: the candidates' fields, and what matches between both sides.
        fields = self.embedding(inputs.items)  # [V, G, F, E]
        item = self.fuse.candidates(fields)  # [V, G, D]
        match = self._match(inputs.counts, inputs.signals)  # [V, G, D]

        # The history right before each visit, as seen by self- and by cross-attention.
        near = Windows.before(inputs.rows, inputs.prefixes, self.window)
        far = Windows.before(inputs.rows, inputs.prefixes, self.memory)

        token = item if self.match_into_token is None else item + self.match_into_token(match)
        memory = self.hstu.remember(events, inputs.time_s)
        itself = self.hstu.attend(token, memory, inputs.time_s, near, inputs.now_s)  # [V, G, D]
        crossed = self.candidate_attention(
            fields[..., self.nro_query, :], self.candidate_attention.remember(events), far
        )  # [V, G, D]
        summary = self.request_attention(
            users[:, self.ro_query], self.request_attention.remember(events), far
        )  # [V, D]
        return MoaOutput(
            profile=users.flatten(-2),
            summary=summary,
            item=item,
            item_fields=fields.flatten(-2),
            match=match,
            target=torch.cat([itself, crossed], -1),
        )

    def _event_fields(self, history: Tensor) -> Tensor:
        """[B, S, H] raw ids -> [B, S, F, E], zero where events lack an item field."""
        placed = history.new_zeros(*history.shape[:2], len(self.moa.item))
        placed[..., self.history_fields] = history
        embedded: Tensor = self.embedding(placed)
        return embedded

    def _match(self, counts: Tensor, signals: Tensor) -> Tensor:
        """T_match = MLP([e_1 .. e_P, log counts, derived signals]). [V, G, D]."""
        # The logarithm goes on where the capped rows end: a category is easily met 100 times.
        logs = torch.log1p(counts.to(signals.dtype))
        explicit = torch.cat([self.hma(counts), logs, self.signals(signals)], -1)
        match: Tensor = self.match(explicit)
        return match


def signal_count(moa: MoaConfig) -> int:
    """R: rhythm per field pair, popularity per field and window, activity, see ``signals``."""
    return (
        RHYTHM * len(moa.fields)
        + len(moa.popular) * len(moa.popular_days)
        + 1
        + len(moa.activity_days)
    )


def _positions(names: Sequence[str], among: Sequence[str]) -> list[int]:
    return [among.index(name) for name in names]

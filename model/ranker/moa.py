"""MoA, the mixture of attentions: sources become five embeddings per (request, candidate).

Owns the selection of sources, their one shared table, and the three kinds of attention that
read them (GESR, arXiv 2511.21095, MoA configuration). Promises that RO outputs depend on
nothing of a candidate, and that each NRO output depends on no other candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .config import RankerConfig
from .cross_attention import CandidateAttention, RequestAttention
from .embedding import QuantileSignals, SharedEmbedding, TokenFuse
from .hma import HardMatchingAttention
from .hstu import Hstu, Windows
from .inputs import Inputs
from .signals import names


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
        self.dropout = config.history_dropout
        self.memory = config.hstu.context
        self.window = config.hstu.window
        self.ro_query = _positions(moa.ro_query, moa.profile + moa.context)
        self.nro_query = _positions(moa.nro_query, moa.item)
        # An event's fields stand where the candidate's same fields stand, so that both become
        # tokens by one projection.
        self.history_fields = _positions(moa.history, moa.item)

        self.embedding = SharedEmbedding(moa.table_rows, moa.field_width)
        self.fuse = TokenFuse(len(moa.item), moa.field_width, actions, width, moa.fuse)
        self.match = _Match(config) if config.parts.match else None
        into_token = moa.hma_into_attention and self.match is not None
        self.match_into_token = nn.Linear(width, width) if into_token else None
        self.self_attention = config.parts.self_attention
        self.hstu = Hstu(width, config.hstu) if self.self_attention != "none" else None
        crossing = config.parts.cross_attention
        self.request_attention = (
            RequestAttention(config.seeds, moa.field_width, width) if crossing != "none" else None
        )
        self.candidate_attention = (
            CandidateAttention(moa.field_width, width) if crossing == "both" else None
        )

    def fit_signals(self, signals: npt.NDArray[np.floating]) -> None:
        """Learn the quantiles of the derived signals. signals: [N, R] of the training rows."""
        if self.match is not None and self.match.signals is not None:
            self.match.signals.fit(signals)

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
        none = torch.zeros_like(item)
        match = none if self.match is None else self.match(inputs.counts, inputs.signals)

        # The history right before each visit, as seen by cross- and by self-attention: no further
        # back than the longest of the batch, which training may have thinned.
        longest = events.shape[1]
        far = Windows.before(inputs.rows, inputs.prefixes, min(self.memory, longest))
        crossed, summary = none, none[:, 0]
        if self.candidate_attention is not None:
            crossed = self.candidate_attention(
                fields[..., self.nro_query, :], self.candidate_attention.remember(events), far
            )  # [V, G, D]
        if self.request_attention is not None:
            summary = self.request_attention(
                users[:, self.ro_query], self.request_attention.remember(events), far
            )  # [V, D]
        token = item if self.match_into_token is None else item + self.match_into_token(match)
        itself = none if self.hstu is None else self._attend(self.hstu, token, events, inputs)
        target = torch.cat([itself, crossed], -1)
        if self.training and self.dropout:
            seen = torch.rand(len(summary), 1, device=summary.device) >= self.dropout
            summary, target = summary * seen, target * seen[:, None]
        return MoaOutput(
            profile=users.flatten(-2),
            summary=summary,
            item=item,
            item_fields=fields.flatten(-2),
            match=match,
            target=target,
        )

    def _event_fields(self, history: Tensor) -> Tensor:
        """[B, S, H] raw ids -> [B, S, F, E], zero where events lack an item field."""
        placed = history.new_zeros(*history.shape[:2], len(self.moa.item))
        placed[..., self.history_fields] = history
        embedded: Tensor = self.embedding(placed)
        return embedded

    def _attend(self, hstu: Hstu, tokens: Tensor, events: Tensor, inputs: Inputs) -> Tensor:
        """[V, G, D] candidates and [B, S, D] events -> [V, G, D]."""
        if self.self_attention == "target":
            size = min(self.window, events.shape[1])
            near = Windows.before(inputs.rows, inputs.prefixes, size)
            memory = hstu.remember(events, inputs.time_s)
            return hstu.attend(tokens, memory, inputs.time_s, near, inputs.now_s)
        newest = (inputs.prefixes - 1).clamp(min=0)
        seen = hstu.rows(events, inputs.time_s)[inputs.rows, newest]  # [V, D]
        seen = seen * (inputs.prefixes > 0)[:, None]
        return seen[:, None].expand_as(tokens)


class _Match(nn.Module):
    """T_match = MLP([e_1 .. e_P, log counts, derived signals])."""

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        moa = config.moa
        self.hma = HardMatchingAttention(len(moa.pairs), moa.match_rows, moa.match_width)
        explicit = self.hma.out_features + len(moa.pairs)
        self.signals = None
        if config.parts.signals:
            self.signals = QuantileSignals(len(names(moa)), moa.signal_bins, moa.signal_width)
            explicit += self.signals.out_features
        self.mlp = nn.Sequential(
            nn.Linear(explicit, config.overarch_width),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.overarch_width, moa.width),
            nn.SiLU(),
        )

    def forward(self, counts: Tensor, signals: Tensor) -> Tensor:
        """[V, G, P] uncapped counts and [V, G, R] signals -> [V, G, D]."""
        # The logarithm goes on where the capped rows end: a category is easily met 100 times.
        explicit = [self.hma(counts), torch.log1p(counts.to(signals.dtype))]
        if self.signals is not None:
            explicit.append(self.signals(signals))
        match: Tensor = self.mlp(torch.cat(explicit, -1))
        return match


def _positions(names: Sequence[str], among: Sequence[str]) -> list[int]:
    return [among.index(name) for name in names]

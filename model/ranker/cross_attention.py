"""Cross-attention over the history: once per request (RO) and once per candidate (NRO).

Owns both of GESR's cross-attentions (arXiv 2511.21095), which are linear in the history. Its
public text leaves their formulas out; those here are stated with each class. Promises that an
empty history contributes exactly zero.

Shapes: V visits, M events each, G candidates, D width, m seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .embedding import INITIAL_STD
from .hstu import Windows


@dataclass(frozen=True)
class HistoryRows:
    """Keys and values of one cross-attention: [B, S, D] each, cacheable event by event."""

    keys: Tensor
    values: Tensor


class _HistoryAttention(nn.Module):
    """softmax(q K^T / sqrt(D)) V over each visit's own events."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def remember(self, tokens: Tensor) -> HistoryRows:
        """[B, S, D] tokens of the histories."""
        return HistoryRows(self.key(tokens), self.value(tokens))

    def attend(self, queries: Tensor, rows: HistoryRows, windows: Windows) -> Tensor:
        """[V, Q, D] queries -> [V, Q, D]; 0 where the visit's history is empty."""
        keys, values = windows.gather(rows.keys), windows.gather(rows.values)  # [V, M, D]
        scores = torch.einsum("nqd,nmd->nqm", self.query(queries), keys) * self.scale
        # A finite floor: the softmax of a row without any event stays a number, and the mask
        # then makes it 0.
        mask = windows.mask[:, None]
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask
        return torch.einsum("nqm,nmd->nqd", weights, values)


class RequestAttention(_HistoryAttention):
    """RO: m learnable seeds summarise the history once per request.

    q = S + W sum-pool(profile embeddings); summary = W' flatten(Attn(q, U, U)).
    """

    def __init__(self, seeds: int, query_width: int, width: int) -> None:
        super().__init__(width)
        self.seeds = nn.Parameter(torch.empty(seeds, width).normal_(std=INITIAL_STD))
        self.pooled = nn.Linear(query_width, width)
        # Without bias, so that an empty history is a summary of 0.
        self.summary = nn.Linear(seeds * width, width, bias=False)

    def forward(self, sources: Tensor, rows: HistoryRows, windows: Windows) -> Tensor:
        """[V, sources, E] RO query embeddings -> [V, D]."""
        queries = self.seeds + self.pooled(sources.sum(-2))[:, None]  # [V, m, D]
        summary: Tensor = self.summary(self.attend(queries, rows, windows).flatten(-2))
        return summary


class CandidateAttention(_HistoryAttention):
    """NRO: each candidate asks the history, and a gate decides how far the answer replaces it.

    q = W sum-pool(candidate embeddings); C = Attn(q, U, U); z = sigmoid(W'[q; C]);
    T = (1 - z) q + z C.
    """

    def __init__(self, query_width: int, width: int) -> None:
        super().__init__(width)
        self.pooled = nn.Linear(query_width, width)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, sources: Tensor, rows: HistoryRows, windows: Windows) -> Tensor:
        """[V, G, sources, E] NRO query embeddings -> [V, G, D]."""
        query = self.pooled(sources.sum(-2))
        context = self.attend(query, rows, windows)
        gate = torch.sigmoid(self.gate(torch.cat([query, context], -1)))
        return torch.lerp(query, context, gate)

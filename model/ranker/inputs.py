"""What one forward pass reads: histories, visits and their candidates, as tensors.

Owns the shapes that training and serving share. Promises nothing about where they come from:
``examples`` builds them from tables, ``ranker`` from one request.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """B histories, V visits, G candidates per visit.

    S >= 1 events per history, padded on the right; U profile, C context, H history and F item
    fields; P pairs, R derived signals. Raw ids are int64, 0 = missing.

    Attributes:
        history: [B, S, H] raw ids of the events, oldest first.
        actions: [B, S] int64 action ids.
        values: [B, S] float.
        time_s: [B, S] float64 seconds, not decreasing within a history.
        rows: [V] int64, the history that each visit reads.
        prefixes: [V] int64, how many of its events came before the visit.
        now_s: [V] float64 seconds.
        profile: [V, U] raw ids.
        context: [V, C] raw ids.
        items: [V, G, F] raw ids.
        counts: [V, G, P] int64, matches over the whole history, uncapped.
        signals: [V, G, R] float, derived signals; NaN = none.
    """

    history: Tensor
    actions: Tensor
    values: Tensor
    time_s: Tensor
    rows: Tensor
    prefixes: Tensor
    now_s: Tensor
    profile: Tensor
    context: Tensor
    items: Tensor
    counts: Tensor
    signals: Tensor

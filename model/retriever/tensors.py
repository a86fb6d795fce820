"""Tensors: a period's ads and a batch of users, stacked for the network.

Owns the flat layout in which the values of several users lie one after another. Promises that
nothing is computed here: shapes change, numbers do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .lookup import positions
from .periods import Period
from .sides import UserSide
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class PeriodTensors:
    """A period's ads as tensors; shapes as in `Period`."""

    rows: Tensor
    value_at: Tensor
    values: int
    factors: Tensor
    priors: Tensor

    @classmethod
    def of(cls, period: Period) -> PeriodTensors:
        """Convert a period's ads."""
        return cls(
            torch.from_numpy(period.rows),
            torch.from_numpy(period.value_at),
            len(period.values),
            torch.from_numpy(period.factors),
            torch.from_numpy(period.priors),
        )


@dataclass(frozen=True)
class UserTensors:
    """B users as tensors; K values met by all of them together, H of these on the period's ads.

    Attributes:
        count: B.
        profile_rows: [B, U + C] int64.
        users: [K] int64 user 0..B-1 of each value.
        fields: [K] int64.
        rows: [K] int64.
        weights: [K] float32.
        factors: [B, R] float32.
        hit_at: [H] int64 user * (M + 1) + position among the period's values.
        hit_fields: [H] int64.
        hit_rows: [H] int64.
        hit_columns: [H, S] float32.
        pair_at: [P] int64, as hit_at, for listed pairs.
        pair_weights: [P] float32.
    """

    count: int
    profile_rows: Tensor
    users: Tensor
    fields: Tensor
    rows: Tensor
    weights: Tensor
    factors: Tensor
    hit_at: Tensor
    hit_fields: Tensor
    hit_rows: Tensor
    hit_columns: Tensor
    pair_at: Tensor
    pair_weights: Tensor

    @classmethod
    def of(cls, users: list[UserSide], values: np.ndarray, profiles: Vocabulary) -> UserTensors:
        """Stack users.

        Args:
            users: B users.
            values: [M] int64 the period's feature values, ascending.
            profiles: vocabulary of profile and context values.
        """
        owner = np.repeat(np.arange(len(users)), [len(user.ids) for user in users])
        ids = np.concatenate([user.ids for user in users])
        hit, at = _among(values, ids)
        rows = np.concatenate([user.rows for user in users])
        fields = np.concatenate([user.fields for user in users])
        pair_owner = np.repeat(np.arange(len(users)), [len(user.pair_ids) for user in users])
        pair, pair_at = _among(values, np.concatenate([user.pair_ids for user in users]))
        width = len(values) + 1
        arrays = (
            profiles.rows(np.stack([user.profile for user in users])),
            owner,
            fields,
            rows,
            np.concatenate([user.weights for user in users]),
            np.stack([user.factors for user in users]),
            owner[hit] * width + at,
            fields[hit],
            rows[hit],
            np.concatenate([user.columns for user in users])[hit],
            pair_owner[pair] * width + pair_at,
            np.concatenate([user.pair_weights for user in users])[pair],
        )
        return cls(len(users), *(torch.from_numpy(array) for array in arrays))


def _among(values: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which ids are among ascending values, and their positions there."""
    at = positions(values, ids)
    found = np.flatnonzero(at >= 0)
    return found, at[found]

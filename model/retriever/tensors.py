"""Tensors: a period's ads and a batch of users, stacked for the network.

Owns the flat layout in which the values of several users lie one after another, and the one row
that HitMatch reads of a value, whether the user met it, pairs lead to it, or both. Promises that
nothing is computed here: shapes change, numbers do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .evidence import EVIDENCE
from .lookup import positions
from .periods import Period
from .sides import UserSide
from .statistics import COLUMNS, USER_COLUMNS
from .vocabulary import Vocabulary

HIT_COLUMNS = len(COLUMNS) + len(EVIDENCE)
_USER = slice(len(COLUMNS) - len(USER_COLUMNS), len(COLUMNS))


@dataclass(frozen=True)
class PeriodTensors:
    """A period's ads as tensors; shapes as in `Period`."""

    rows: Tensor
    value_at: Tensor
    values: int
    factors: Tensor
    sources: Tensor
    priors: Tensor

    @classmethod
    def of(cls, period: Period) -> PeriodTensors:
        """Convert a period's ads."""
        return cls(
            torch.from_numpy(period.rows),
            torch.from_numpy(period.value_at),
            len(period.values),
            torch.from_numpy(period.factors),
            torch.from_numpy(period.sources),
            torch.from_numpy(period.priors),
        )


@dataclass(frozen=True)
class UserTensors:
    """B users as tensors; K values met by all of them together, J of these items with factors.

    HitMatch weighs H values: those on the period's ads that a user met or that pairs lead to.

    Attributes:
        count: B.
        profile_rows: [B, U + C] int64.
        users: [K] int64 user 0..B-1 of each value.
        fields: [K] int64.
        rows: [K] int64.
        weights: [K] float32.
        known: [J] int64 positions among the values met.
        known_columns: [J, S] float32 statistics.
        sources: [J] int64 positions among the items that have source factors.
        hit_at: [H] int64 user * (M + 1) + position among the period's values.
        hit_fields: [H] int64.
        hit_rows: [H] int64.
        hit_columns: [H, HIT_COLUMNS] float32: statistics, of which an item never met has the
            user's alone, then evidence, zeros where there is none.
    """

    count: int
    profile_rows: Tensor
    users: Tensor
    fields: Tensor
    rows: Tensor
    weights: Tensor
    known: Tensor
    known_columns: Tensor
    sources: Tensor
    hit_at: Tensor
    hit_fields: Tensor
    hit_rows: Tensor
    hit_columns: Tensor

    @classmethod
    def of(cls, users: list[UserSide], values: np.ndarray, profiles: Vocabulary) -> UserTensors:
        """Stack users.

        Args:
            users: B users.
            values: [M] int64 the period's feature values, ascending.
            profiles: vocabulary of profile and context values.
        """
        owner = _owners(len(user.ids) for user in users)
        fields = np.concatenate([user.fields for user in users])
        rows = np.concatenate([user.rows for user in users])
        firsts = np.cumsum([0, *(len(user.ids) for user in users)])
        known = np.concatenate(
            [user.known + first for user, first in zip(users, firsts[:-1], strict=True)]
        )
        arrays = (
            profiles.rows(np.stack([user.profile for user in users])),
            owner,
            fields,
            rows,
            np.concatenate([user.weights for user in users]),
            known,
            np.concatenate([user.columns[user.known] for user in users]),
            np.concatenate([user.sources for user in users]),
            *_hits(users, values, owner, fields, rows),
        )
        return cls(len(users), *(torch.from_numpy(array) for array in arrays))


def _hits(
    users: list[UserSide],
    values: np.ndarray,
    owner: np.ndarray,
    fields: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What HitMatch weighs: hit_at, hit_fields, hit_rows and hit_columns of `UserTensors`.

    Args:
        users: B users.
        values: [M] int64 the period's feature values, ascending.
        owner: [K] int64 user of each value met.
        fields: [K] int64.
        rows: [K] int64.
    """
    width = len(values) + 1
    met, met_at = _among(values, np.concatenate([user.ids for user in users]))
    met_at += owner[met] * width
    led_owner = _owners(len(user.evidence.ids) for user in users)
    led, led_at = _among(values, np.concatenate([user.evidence.ids for user in users]))
    led_at += led_owner[led] * width
    hit_at = np.union1d(met_at, led_at)
    met_row, led_row = np.searchsorted(hit_at, met_at), np.searchsorted(hit_at, led_at)

    # What pairs lead to and was never met is an item, whose field is the first.
    hit_fields = np.zeros(len(hit_at), np.int64)
    hit_fields[met_row] = fields[met]
    hit_rows = np.empty(len(hit_at), np.int64)
    hit_rows[led_row] = np.concatenate([user.led_rows for user in users])[led]
    hit_rows[met_row] = rows[met]
    columns = np.zeros((len(hit_at), HIT_COLUMNS), np.float32)
    about_user = np.stack([user.about_user for user in users])
    columns[:, _USER] = about_user[hit_at // width]
    columns[met_row, : len(COLUMNS)] = np.concatenate([user.columns for user in users])[met]
    columns[led_row, len(COLUMNS) :] = np.concatenate([user.evidence.columns for user in users])[
        led
    ]
    return hit_at, hit_fields, hit_rows, columns


def _owners(lengths: Iterable[int]) -> np.ndarray:
    """[sum of lengths] int64: user 0..B-1 of each value."""
    counts = np.fromiter(lengths, np.int64)
    return np.repeat(np.arange(len(counts)), counts)


def _among(values: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which ids are among ascending values, and their positions there."""
    at = positions(values, ids)
    found = np.flatnonzero(at >= 0)
    return found, at[found]

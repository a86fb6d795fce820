"""Claims about what HitMatch reads of a value."""

from __future__ import annotations

import numpy as np

from model.retriever.evidence import EVIDENCE, Evidence
from model.retriever.sides import UserSide
from model.retriever.statistics import COLUMNS, USER_COLUMNS
from model.retriever.tensors import HIT_COLUMNS, UserTensors
from model.retriever.vocabulary import Vocabulary

PROFILES = Vocabulary(np.zeros(0, np.int64), 1)


def side(met: list[int], led: list[int], number: float) -> UserSide:
    """A user who met items, whose pairs lead to items; every column holds one number."""
    return UserSide(
        ids=np.array(met),
        fields=np.zeros(len(met), np.int64),
        rows=np.array(met) + 100,
        columns=np.full((len(met), len(COLUMNS)), number, np.float32),
        weights=np.ones(len(met), np.float32),
        profile=np.array([0]),
        known=np.zeros(0, np.int64),
        sources=np.zeros(0, np.int64),
        evidence=Evidence(
            np.array(led), np.full((len(led), len(EVIDENCE)), number + 0.5, np.float32)
        ),
        led_rows=np.array(led) + 100,
    )


def test_a_value_met_and_led_to_is_one_row_with_both() -> None:
    values = np.array([1, 2, 3, 4])
    users = UserTensors.of([side([1, 2, 9], [2, 3], 5.0), side([4], [1], 7.0)], values, PROFILES)
    # Position among the values, after those of the users before (a width of 5 each); 9 is on no ad.
    assert users.hit_at.tolist() == [0, 1, 2, 5, 8]
    assert users.hit_rows.tolist() == [101, 102, 103, 101, 104]
    about_user, rest = len(USER_COLUMNS), len(COLUMNS) - len(USER_COLUMNS)
    met, led, none = [5.0] * len(COLUMNS), [5.5] * len(EVIDENCE), [0.0] * len(EVIDENCE)
    stranger = [0.0] * rest + [5.0] * about_user
    assert users.hit_columns.shape == (5, HIT_COLUMNS)
    assert users.hit_columns[:3].tolist() == [met + none, met + led, stranger + led]
    assert users.hit_columns[3].tolist() == [0.0] * rest + [7.0] * about_user + [7.5] * len(led)


def test_users_without_history_have_no_rows() -> None:
    users = UserTensors.of([side([], [], 0.0)], np.array([1, 2]), PROFILES)
    assert users.hit_at.shape == (0,)
    assert users.hit_columns.shape == (0, HIT_COLUMNS)

"""Claims about trust: the share makes the best lists, is never negative, and rests in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.ranker.matches import Floats, Ints
from model.ranker.trust import Trust

LISTS, LENGTH = 3_000, 12
# The score is the second of the derived signals.
SCORE = 1


def planted(share: float) -> tuple[Floats, Floats, Floats, Ints]:
    """Logits, signals and labels of one task: of each list one ad is taken, by their sum."""
    random = np.random.default_rng(0)
    own, score = random.normal(size=(2, LISTS, LENGTH)).astype(np.float32)
    # In units and with a mean of their own.
    score = 5.0 + 10.0 * score
    taken = (own + share * score + random.gumbel(size=own.shape)).argmax(1)
    labels = np.eye(LENGTH, dtype=np.float32)[taken].reshape(-1, 1)
    signals = np.stack([np.zeros_like(score), score], -1).reshape(-1, 2)
    return own.reshape(-1, 1), signals, labels, np.repeat(np.arange(LISTS), LENGTH)


def fitted(share: float) -> Trust:
    trust = Trust(SCORE, tasks=1).eval()
    trust.fit(*planted(share))
    return trust


def test_the_planted_share_returns_and_does_not_add_up() -> None:
    logits, signals, labels, visits = planted(0.07)
    trust = Trust(SCORE, tasks=1).eval()
    once = trust.fit(logits, signals, labels, visits)
    assert trust.share.item() == pytest.approx(0.07, rel=0.06)
    np.testing.assert_allclose(once, logits + trust(torch.from_numpy(signals)).numpy(), atol=1e-5)
    again = trust.fit(once, signals, labels, visits)
    np.testing.assert_allclose(again, once, atol=1e-4)


def test_a_low_score_is_never_rewarded() -> None:
    assert fitted(-0.07).share.item() == 0.0


def test_an_ad_without_a_score_gets_nothing_and_so_does_training() -> None:
    trust = fitted(0.07)
    signals = torch.tensor([[0.0, torch.nan], [0.0, 50.0]])
    without, high = trust(signals).flatten().tolist()
    assert without == 0.0
    assert high > 1.0
    assert not trust.train()(signals).any()


def test_lists_that_tell_nothing_leave_the_logits_alone() -> None:
    logits, signals, labels, visits = planted(0.07)
    trust = Trust(SCORE, tasks=1).eval()
    for same in (0 * labels, 0 * labels + 1):
        np.testing.assert_allclose(trust.fit(logits, signals, same, visits), logits)
    unknown = np.full_like(signals, np.nan)
    np.testing.assert_array_equal(trust.fit(logits, unknown, labels, visits), logits)
    # Of one ad each there is no order.
    alone = np.arange(len(visits))
    np.testing.assert_allclose(trust.fit(logits, signals, labels, alone), logits)

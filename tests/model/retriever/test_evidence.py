"""Claims about the evidence of listed pairs."""

from __future__ import annotations

import numpy as np

from model.retriever.cooccurrence import Cooccurrence
from model.retriever.evidence import EVIDENCE, RECENT_DAYS, gather

NONE = np.zeros((4, 1), np.float32)
PAIRS = Cooccurrence(
    ids=np.array([10, 20, 30, 40]),
    source=NONE,
    target=NONE,
    pair_offsets=np.array([0, 2, 3, 3, 5]),
    pair_targets=np.array([1, 3, 3, 0, 1]),
    pair_weights=np.array([0.2, 0.3, 0.1, 0.4, 0.05], np.float32),
)


def test_evidence_adds_up_the_pairs_of_what_was_met() -> None:
    """Items 10 and 20 both lead to 40, and only 10 to 20; the pairs of 40 stay out."""
    month = np.exp(-1.0)
    found = gather(np.array([0, 1]), np.array([RECENT_DAYS, 0.0], np.float32), PAIRS)
    assert found.ids.tolist() == [20, 40]
    wanted = [
        [200, 200 * month, 200, 1],
        [400, 300 * month + 100, 300, 2],
    ]
    np.testing.assert_allclose(found.columns, np.log1p(wanted), rtol=1e-5)


def test_nothing_met_and_nothing_led_to_give_no_evidence() -> None:
    for met in ([], [2]):
        ages = np.zeros(len(met), np.float32)
        found = gather(np.array(met, np.int64), ages, PAIRS)
        assert found.ids.shape == (0,)
        assert found.columns.shape == (0, len(EVIDENCE))

"""Frequency caps count what the user saw, when it counts."""

import pytest

from daemon.frequency import capped
from stream.records import FrequencyCap, UserEvent

NOW_MS = 10_000
HISTORY = [
    UserEvent("a", 1, "view", 1_000),
    UserEvent("b", 1, "view", 9_000),
    UserEvent("c", 1, "click", 9_500),
    UserEvent("d", 2, "view", 9_000),
    UserEvent("e", None, "view", 9_000),
    UserEvent("f", 2, "view", 10_001),
]


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        (FrequencyCap(1), [1, 2]),
        (FrequencyCap(2), [1]),
        (FrequencyCap(3), [1]),
        (FrequencyCap(4), []),
        (FrequencyCap(2, actions=("view",)), [1]),
        (FrequencyCap(2, window_ms=9_000, actions=("view",)), []),
        (FrequencyCap(2, window_ms=9_001, actions=("view",)), [1]),
        (FrequencyCap(1, actions=("buy",)), []),
    ],
)
def test_the_history_counts_within_the_window_until_now(
    cap: FrequencyCap, expected: list[int]
) -> None:
    assert capped(cap, lambda: HISTORY, NOW_MS).tolist() == expected


def test_the_callers_counts_replace_the_history() -> None:
    def unread() -> list[UserEvent]:
        raise AssertionError("the history is not needed")

    assert capped(FrequencyCap(2, seen={5: 2, 6: 1}), unread, NOW_MS).tolist() == [5]

"""A person sees how far a long verb is, with or without a terminal."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from daemon import progress
from daemon.replay import Progress as Sent

DAY_MS = 86_400_000


def test_the_past_does_not_count_as_the_replays_progress() -> None:
    """40 weeks of it take seconds, and the one that follows takes minutes."""
    out = io.StringIO()
    with progress.replay_bar(
        Console(file=out, force_terminal=True, width=100), 0, 280 * DAY_MS, 287 * DAY_MS
    ) as report:
        report(Sent(280 * DAY_MS, Counter(a=1_000_000)))
        assert "replay" in out.getvalue()
        report(Sent(281 * DAY_MS, Counter(a=1_000_001)))
    past, replayed = [line for line in out.getvalue().splitlines() if "%" in line][-2:]
    assert "100%" in past
    assert " 14%" in replayed
    assert "9 Oct 00:00" in replayed


def test_a_replay_that_goes_on_has_no_past() -> None:
    out = io.StringIO()
    with progress.replay_bar(Console(file=out), 7 * DAY_MS, DAY_MS, 14 * DAY_MS) as report:
        report(Sent(14 * DAY_MS, Counter()))
    assert "the past" not in out.getvalue()
    assert "100%" in out.getvalue()


def test_without_a_terminal_lines_tell_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    out = io.StringIO()
    with progress.training_bar(Console(file=out), "ranker") as report:
        report(1, 4, 0.5)
        report(2, 4, 0.25)
        assert out.getvalue().splitlines() == ["ranker 25%  loss 0.5000", "ranker 50%  loss 0.2500"]

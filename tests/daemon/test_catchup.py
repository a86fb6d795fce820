"""A start tells how far its replay is, and ends when the topic's end is applied."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from daemon import catchup
from daemon.applied import Applied
from daemon.catchup import Progress, catch_up
from monitoring.freshness import LagTracker
from monitoring.metrics import REGISTRY


class Loop:
    """What an ingest loop shows of itself."""

    applier = SimpleNamespace(topic="ads")
    waiting: str | None = None

    def __init__(self) -> None:
        self.applied = Applied(LagTracker())
        self.applied.begin("ads", {0: 100, 1: 0})

    async def ends(self) -> dict[int, int]:
        return {0: 300, 1: 50}

    def left(self, ends: dict[int, int]) -> int:
        return self.applied.left({"ads": ends})

    async def reached(self, ends: dict[int, int], timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)


async def told(loop: Any, told: list[Progress], count: int) -> None:
    async with asyncio.timeout(5):
        while len(told) < count:
            await asyncio.sleep(0)


async def test_pace_and_time_left_are_told_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "INTERVAL_S", 0.02)
    loop: Any = Loop()
    progress: list[Progress] = []
    running = asyncio.create_task(catch_up(loop, progress.append))
    await told(loop, progress, 1)
    assert progress[0] == Progress(250, 0.0, None)
    assert str(progress[0]) == "replaying: 250 offsets at 0/s"
    await loop.applied.note("ads", {0: 200}, 0)
    await told(loop, progress, len(progress) + 2)
    assert progress[-1].offsets_left == 150
    assert progress[-1].left_s == pytest.approx(150 / progress[-1].offsets_per_s)
    left_s = REGISTRY.get_sample_value("headwater_replay_left_seconds", {"topic": "ads"})
    assert left_s == pytest.approx(progress[-1].left_s)
    await loop.applied.note("ads", {0: 900, 1: 50}, 0)
    await asyncio.wait_for(running, 5)
    assert REGISTRY.get_sample_value("headwater_replay_left_seconds", {"topic": "ads"}) == 0


async def test_a_topic_that_waits_has_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "INTERVAL_S", 0.01)
    loop: Any = Loop()
    loop.waiting = "blocked by a record"
    progress: list[Progress] = []
    running = asyncio.create_task(catch_up(loop, progress.append))
    await asyncio.sleep(0.05)
    assert progress == []
    running.cancel()

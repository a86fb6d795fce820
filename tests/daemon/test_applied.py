"""Waiting for a state: over as soon as it is there, refused with what is missing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from daemon.applied import Applied
from daemon.scoring import RequestRefused
from monitoring.freshness import LagTracker
from stream.reader import FETCH_MAX_WAIT_MS
from stream.records import ScoreRequest

LONG_S = 30.0


def now_ms() -> float:
    return time.time() * 1e3


def request(**more: Any) -> ScoreRequest:
    return ScoreRequest(request_id="r", user_id=1, **more)


@pytest.fixture
def lag() -> LagTracker:
    return LagTracker()


@pytest.fixture
def applied(lag: LagTracker) -> Applied:
    applied = Applied(lag)
    applied.begin("ads", {0: 10, 1: 20})
    return applied


async def test_what_is_there_already_is_not_waited_for(applied: Applied) -> None:
    await applied.satisfy(request(), 0.0)
    await applied.satisfy(request(min_offsets={"ads": {0: 10, 1: 20}}), 0.0)


async def test_a_wait_is_over_when_the_offset_is_applied(applied: Applied) -> None:
    waiting = asyncio.create_task(applied.satisfy(request(min_offsets={"ads": {0: 12}}), LONG_S))
    await applied.note("ads", {0: 11}, now_ms())
    await asyncio.sleep(0)
    assert not waiting.done()
    await applied.note("ads", {0: 12}, now_ms())
    await waiting


async def test_an_offset_that_does_not_come_is_refused_with_how_far_it_is(
    applied: Applied,
) -> None:
    with pytest.raises(RequestRefused, match="ads partition 1 is applied up to offset 20, not 21"):
        await applied.satisfy(request(min_offsets={"ads": {0: 10, 1: 21}}), 0.0)
    with pytest.raises(RequestRefused) as refused:
        await applied.satisfy(request(min_offsets={"ads": {1: 21}}), 0.01)
    assert refused.value.code == "stale"


@pytest.mark.parametrize("wanted", [{"ads": {2: 0}}, {"shop": {0: 0}}, {"user-events": {0: 0}}])
async def test_what_can_never_be_applied_here_is_refused_at_once(
    applied: Applied, wanted: dict[str, dict[int, int]]
) -> None:
    with pytest.raises(RequestRefused) as refused:
        await applied.satisfy(request(min_offsets=wanted), LONG_S)
    assert refused.value.code == "invalid_field"


async def test_a_worker_that_has_not_heard_the_broker_is_stale(applied: Applied) -> None:
    """It cannot know what it misses."""
    with pytest.raises(RequestRefused, match="ads may be"):
        await applied.satisfy(request(max_staleness_ms=1_000), 0.0)
    await applied.note("ads", {}, now_ms())
    await applied.satisfy(request(max_staleness_ms=1_000), 0.0)


async def test_an_idle_topic_is_not_stale_between_two_answers_of_the_broker(
    applied: Applied,
) -> None:
    """A fetch is answered at once when there is something, so silence says that there is not."""
    await applied.note("ads", {}, now_ms() + FETCH_MAX_WAIT_MS)
    assert applied.staleness_ms("ads") == 0.0


async def test_a_record_that_waits_makes_the_state_as_stale_as_it_is_old(
    applied: Applied, lag: LagTracker
) -> None:
    lag.note_applied("ads", 0, 10, None)
    lag.note_fetched("ads", 0, 11, oldest_ms=now_ms() - 5_000)
    await applied.note("ads", {}, now_ms())
    assert 5_000 <= applied.staleness_ms("ads") < 60_000
    waiting = asyncio.create_task(applied.satisfy(request(max_staleness_ms=4_000), LONG_S))
    await asyncio.sleep(0)
    lag.note_applied("ads", 0, 11, now_ms())
    await applied.note("ads", {0: 11}, now_ms())
    await waiting


async def test_a_topic_is_reached_when_every_partition_is(applied: Applied) -> None:
    waiting = asyncio.create_task(applied.reach({"ads": {0: 11, 1: 21}}))
    await applied.note("ads", {0: 11}, now_ms())
    await asyncio.sleep(0)
    assert not waiting.done()
    await applied.note("ads", {1: 21}, now_ms())
    await waiting

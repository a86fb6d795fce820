"""The queue of requests: whoever waits for a state is in nobody's way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from daemon.applied import Applied
from daemon.forwarding import Forwarding
from daemon.ownership import Ownership
from daemon.parking import Parking
from daemon.requests import RequestDesk
from daemon.scoring import Scored
from daemon.settings import ScoringSection
from monitoring.freshness import LagTracker
from monitoring.health import Readiness
from stream.codec import decode_impression, decode_response, encode_request
from stream.formats import JSON
from stream.records import ErrorBody, Impression, ScoreRequest, ScoreResponse
from stream.requests import RequestMessage
from stream.settings import Kafka
from stream.topics import IMPRESSIONS

QUEUE = 2
TO_COME = {"ads": {0: 1}}


class Scorer:
    """Finds nothing, at once unless it is held, and wants that logged."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()

    def explain(self, request: ScoreRequest, ad_id: int) -> None:
        """Nothing."""

    def score(self, request: ScoreRequest) -> Scored:
        self.free.wait(5)
        request_id, user_id = request.request_id, request.user_id
        return Scored(
            ScoreResponse(request_id=request_id, user_id=user_id),
            Impression(request_id=request_id, user_id=user_id, time_ms=1),
        )


class Publisher:
    """Keeps the answers, in the order in which they come."""

    def __init__(self) -> None:
        self.answers: list[ScoreResponse] = []
        self.impressions: list[Impression] = []

    async def send(self, topic: str, _key: bytes, value: bytes, _headers: Any) -> None:
        if topic == IMPRESSIONS:
            self.impressions.append(decode_impression(value))
        else:
            self.answers.append(decode_response(value))


class Desk:
    """A desk of a worker that is ready and has applied nothing yet."""

    def __init__(self) -> None:
        readiness = Readiness([])
        readiness.mark_started()
        self.applied = Applied(LagTracker())
        self.applied.begin("ads", {0: 0})
        self.publisher = Publisher()
        self.scorer = Scorer()
        parts: Any = self.scorer, readiness, self.publisher, None, self.applied
        settings = ScoringSection(max_queue=QUEUE, max_wait_ms=30_000)
        self.desk = RequestDesk(*parts, Kafka("nowhere"), settings, JSON, JSON)

    async def accept(self, name: str, **more: Any) -> None:
        async with asyncio.timeout(5):
            asked = await self.desk.read(message(name, **more))
            assert asked is not None
            await self.desk.accept(asked)

    async def answered(self, count: int) -> list[tuple[str, str]]:
        """Who was answered, and how, once they are `count`."""
        async with asyncio.timeout(5):
            while len(self.publisher.answers) < count:
                await asyncio.sleep(0)
        return [
            (answer.request_id, answer.error.code if answer.error else "ok")
            for answer in self.publisher.answers
        ]


class Parked:
    """In front of a desk of a worker whose only user is on the way to it."""

    def __init__(self, desk: Desk) -> None:
        nothing: Any = None
        ownership = Ownership(*[nothing] * 12)
        ownership.assign(frozenset({0}))
        forwarding = Forwarding(Kafka("nowhere"), nothing, "worker")
        self.parking = Parking(desk.desk, ownership, forwarding, most=QUEUE)

    async def accept(self, name: str, **more: Any) -> None:
        async with asyncio.timeout(5):
            await self.parking.accept(message(name, **more))


def message(name: str, **more: Any) -> RequestMessage:
    return RequestMessage("", 0, 0, now_ms(), b"1", encode_request(request(name, **more)), ())


def now_ms() -> int:
    return int(time.time() * 1e3)


def request(name: str, **more: Any) -> ScoreRequest:
    return ScoreRequest(request_id=name, user_id=1, **more)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_requests_that_wait_for_a_state_hold_up_nobody(desk: Desk) -> None:
    """Else a full queue of them would stop everybody for as long as they wait."""
    early = [f"early {n}" for n in range(QUEUE)]
    for name in early:
        await desk.accept(name, min_offsets=TO_COME)
    others = [f"other {n}" for n in range(2 * QUEUE)]
    for name in others:
        await desk.accept(name)
    assert await desk.answered(len(others)) == [(name, "ok") for name in others]
    assert (await desk.desk.answer(request("http"), now_ms())).error is None

    await desk.applied.note("ads", {0: 1}, now_ms())
    answers = await desk.answered(len(others) + QUEUE)
    assert answers[len(others) :] == [(name, "ok") for name in early]
    await desk.desk.drain()


async def test_no_more_than_a_queue_of_them_waits(desk: Desk) -> None:
    for n in range(QUEUE + 1):
        await desk.accept(f"early {n}", min_offsets=TO_COME)
    assert await desk.answered(1) == [(f"early {QUEUE}", "overloaded")]
    response = await desk.desk.answer(request("http", min_offsets=TO_COME), now_ms())
    assert response.error is not None
    assert response.error.code == "overloaded"
    await desk.applied.note("ads", {0: 1}, now_ms())
    assert len(await desk.answered(QUEUE + 1)) == QUEUE + 1
    await desk.desk.drain()


async def test_a_wait_is_over_at_the_deadline(desk: Desk) -> None:
    await desk.accept("early", min_offsets=TO_COME, deadline_ms=20)
    await desk.accept("nowhere", min_offsets={"ads": {9: 1}})
    assert await desk.answered(2) == [("nowhere", "invalid_field"), ("early", "stale")]
    await desk.desk.drain()


async def test_an_explanation_waits_no_longer_than_its_deadline_from_when_it_was_asked(
    desk: Desk,
) -> None:
    """On the way to the user's owner some of it may have passed."""
    asked = request("late", min_offsets=TO_COME, deadline_ms=20_000)
    async with asyncio.timeout(5):
        answer = await desk.desk.explain(asked, 1, now_ms() - 20_000)
    assert isinstance(answer, ErrorBody)
    assert answer.code == "stale"
    await desk.desk.drain()


async def test_a_request_whose_user_is_on_the_move_is_told_when_its_deadline_has_passed(
    desk: Desk,
) -> None:
    """Not only when the user has come."""
    parked = Parked(desk)
    await parked.accept("patient")
    await parked.accept("urgent", deadline_ms=20)
    assert await desk.answered(1) == [("urgent", "deadline")]
    await parked.parking.close()


async def test_every_parked_request_is_answered_when_the_parking_closes(desk: Desk) -> None:
    """One that has just come, and one that waits for a place in the queue, as well."""
    parked = Parked(desk)
    desk.scorer.free.clear()
    for n in range(QUEUE):
        await desk.accept(f"queued {n}")
    await parked.accept("waits")
    await asyncio.sleep(0)
    await parked.accept("has just come")
    closing = asyncio.create_task(parked.parking.close())
    # Their order is nobody's promise.
    answered = {("waits", "not_owner"), ("has just come", "not_owner")}
    assert set(await desk.answered(2)) == answered
    desk.scorer.free.set()
    await closing
    await desk.desk.drain()


async def test_what_was_served_is_logged_before_the_desk_closes() -> None:
    at = Desk()
    async with asyncio.timeout(5):
        answer = await at.desk.answer(request("a"), now_ms())
        await at.accept("b")
        await at.desk.drain()
    assert answer.error is None
    assert sorted(i.request_id for i in at.publisher.impressions) == ["a", "b"]


async def test_a_state_that_aged_in_the_queue_is_waited_for_again(desk: Desk) -> None:
    """It was fresh enough when the request came, and the thread had another one to score."""
    desk.scorer.free.clear()
    await desk.accept("long")
    await desk.applied.note("ads", {0: 0}, now_ms())
    await desk.accept("fresh", max_staleness_ms=300)
    await asyncio.sleep(0.5)
    desk.scorer.free.set()
    assert await desk.answered(1) == [("long", "ok")]
    await asyncio.sleep(0.05)
    assert len(desk.publisher.answers) == 1
    await desk.applied.note("ads", {0: 0}, now_ms())
    assert await desk.answered(2) == [("long", "ok"), ("fresh", "ok")]
    await desk.desk.drain()


async def test_a_desk_that_closes_answers_what_is_here_and_refuses_what_comes(desk: Desk) -> None:
    """Over HTTP too; and who waits for a state is told that it will not come."""
    desk.scorer.free.clear()
    waiting = asyncio.create_task(
        desk.desk.answer(request("waiting", min_offsets=TO_COME), now_ms())
    )
    await asyncio.sleep(0.05)
    over_http = asyncio.create_task(desk.desk.answer(request("http"), now_ms()))
    await desk.accept("record")
    closing = asyncio.create_task(desk.desk.drain())
    await asyncio.sleep(0.05)
    late = await desk.desk.answer(request("late"), now_ms())
    assert late.error is not None
    assert late.error.code == "not_ready"
    told = (await waiting).error
    assert told is not None
    assert told.code == "not_ready"
    assert "offset 0, not 1" in told.message
    assert not closing.done()
    desk.scorer.free.set()
    assert (await over_http).error is None
    await closing
    assert await desk.answered(1) == [("record", "ok")]


async def test_an_ignored_key_of_a_record_is_told_in_its_answer() -> None:
    desk = Desk()
    record = message("typo")
    record = record._replace(value=record.value.replace(b"{", b'{"frequency_capp": 3, ', 1))
    asked = await desk.desk.read(record)
    assert asked is not None
    await desk.desk.accept(asked)
    await desk.accept("right")
    await desk.answered(2)
    flags = {answer.request_id: answer.flags for answer in desk.publisher.answers}
    assert flags == {"typo": ("unknown_keys",), "right": ()}

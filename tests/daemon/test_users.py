"""Erasing a user: what is answered, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError
from aiokafka.structs import RecordMetadata, TopicPartition

from daemon.applied import Applied
from daemon.clock import WallClock
from daemon.scoring import RequestRefused
from daemon.users import Users
from monitoring.freshness import LagTracker
from stream.settings import Kafka
from stream.topics import USER_EVENTS

USER, PARTITION, OFFSET = 7, 0, 41
PLACED = RecordMetadata(USER_EVENTS, PARTITION, TopicPartition(USER_EVENTS, 0), OFFSET, 0, 0, 0)
SOON_S, LATE_S = 0.02, 30.0


class World:
    """A worker that has applied nothing, and a broker that answers when it is told to."""

    def __init__(self) -> None:
        self.acknowledged: asyncio.Future[RecordMetadata] = asyncio.Future()
        self.applied = Applied(LagTracker())
        self.applied.begin(USER_EVENTS, {PARTITION: 0})
        self.cleaned = 0
        parts: Any = None, None, self, Kafka("nowhere"), self.applied, self, WallClock()
        self.users = Users(*parts)

    async def send(self, *_record: Any) -> asyncio.Future[RecordMetadata]:
        return self.acknowledged

    async def clean(self) -> None:
        self.cleaned += 1


@pytest.fixture
async def world() -> World:
    return World()


async def test_who_erases_is_answered_when_the_user_is_gone(world: World) -> None:
    world.acknowledged.set_result(PLACED)
    erasing = asyncio.create_task(world.users.erase(USER, LATE_S))
    await world.applied.note(USER_EVENTS, {PARTITION: OFFSET}, 0.0)
    assert not erasing.done()
    await world.applied.note(USER_EVENTS, {PARTITION: OFFSET + 1}, 0.0)
    answer = await asyncio.wait_for(erasing, 5)
    assert answer == {
        "user_id": "7",
        "partition": PARTITION,
        "erased_before": OFFSET,
        "gone": True,
    }
    assert world.cleaned == 1


async def test_an_erasure_that_is_written_goes_on_when_its_caller_waits_no_longer(
    world: World,
) -> None:
    world.acknowledged.set_result(PLACED)
    answer = await asyncio.wait_for(world.users.erase(USER, SOON_S), 5)
    assert (answer["erased_before"], answer["gone"]) == (OFFSET, False)
    await world.applied.note(USER_EVENTS, {PARTITION: OFFSET + 1}, 0.0)
    async with asyncio.timeout(5):
        while not world.cleaned:
            await asyncio.sleep(0)


async def test_an_erasure_that_kafka_has_not_taken_in_time_is_an_error(world: World) -> None:
    with pytest.raises(RequestRefused) as refused:
        await asyncio.wait_for(world.users.erase(USER, SOON_S), 5)
    assert refused.value.code == "deadline"
    # The producer's own record is not withdrawn by a caller who gave up.
    assert not world.acknowledged.cancelled()


async def test_an_erasure_that_kafka_refuses_is_an_error(world: World) -> None:
    world.acknowledged.set_exception(RequestTimedOutError())
    with pytest.raises(RequestRefused) as refused:
        await world.users.erase(USER, LATE_S)
    assert refused.value.code == "not_ready"

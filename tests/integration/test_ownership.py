"""Users on the move: every history is whole on its one owner, whatever becomes of the workers."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemon.client import WorkerClient, WorkerUnreachable
from daemon.forwarding import ANSWER_TIMEOUT_S, FORWARDED_HEADER
from daemon.process import WorkerProcess
from stream import topics
from stream.client import Client
from stream.codec import encode_event, encode_id
from stream.placement import partition_of
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import ScoreRequest, UserEvent
from stream.settings import Kafka
from stream.topics import USER_EVENTS, USER_HISTORIES, USER_PARTITIONS

WriteConfig = Callable[..., Path]

EVENTS_KEPT = 12
USERS = range(1, 41)
ERASED = 7
# The machine that runs this may be busy; a quiet one takes a tenth of it.
DEADLINE_S = 120.0
DEADLINE_MS = 50_000
# Less than a worker's patience with one that does not answer.
FORWARDING_S = ANSWER_TIMEOUT_S - 10
EVERYTHING = set(range(USER_PARTITIONS))
CONFIG = f"""
[history]
events = {EVENTS_KEPT}
checkpoint_interval_s = 0.3
"""


class Truth:
    """Writes events, some late and some twice, and knows what the histories must be."""

    def __init__(self, kafka: Kafka, publisher: Publisher, seed: int) -> None:
        self._topic = kafka.topic(USER_EVENTS)
        self._publisher = publisher
        self._random = random.Random(seed)
        self._times: dict[int, dict[str, int]] = {user_id: {} for user_id in USERS}
        self._written = 0

    async def write(self, per_user: int = 3) -> None:
        """Some more events of every user."""
        records = []
        for user_id in USERS:
            for _ in range(per_user):
                self._written += 1
                time_ms = 1_000_000 + self._written * 10 - self._random.choice((0, 0, 5_000))
                event = UserEvent(f"e{self._written}", None, "buy", time_ms)
                self._times[user_id][event.event_id] = time_ms
                record = (self._topic, encode_id(user_id), encode_event(event), ())
                records += [record] * self._random.choice((1, 1, 1, 2))
        await self._publisher.send_all(records)

    def erase(self, user_id: int) -> None:
        """What came so far does not count."""
        self._times[user_id].clear()

    def history(self, user_id: int) -> list[str]:
        """The ids of the newest events, oldest first."""
        ordered = sorted(self._times[user_id].items(), key=lambda item: (item[1], item[0]))
        newest = sorted(ordered, key=lambda item: (-item[1], item[0]))[:EVENTS_KEPT]
        return [event_id for event_id, _ in ordered if event_id in dict(newest)]


class Cluster:
    """Workers by name, and what they say together."""

    def __init__(
        self, kafka: Kafka, folder: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._kafka = kafka
        self._folder = folder
        self._config = config
        self._environment = monkeypatch
        self.processes: dict[str, WorkerProcess] = {}
        self.clients: dict[str, WorkerClient] = {}

    async def start(self, name: str) -> None:
        process = WorkerProcess(self._config, self._folder / f"{name}.log")
        self.processes[name] = process
        self._environment.setenv("HEADWATER_WORKER__ID", f"{self._kafka.prefix}{name}")
        client = WorkerClient(await process.start())
        self.clients[name] = await client.__aenter__()
        await process.wait_ready(client)

    async def end(self, name: str, *, kill: bool = False) -> None:
        await self.clients.pop(name).__aexit__(None, None, None)
        process = self.processes.pop(name)
        if kill:
            await process.kill()
        else:
            assert await process.stop() == 0

    async def end_all(self) -> None:
        for client in self.clients.values():
            await client.__aexit__(None, None, None)
        for process in self.processes.values():
            await process.stop()

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes[name].pid, number)

    async def settled(self, *names: str) -> None:
        """Wait until these workers share all partitions and have all of their events."""
        topic = self._kafka.topic(USER_EVENTS)
        async with TopicReader(self._kafka, [topic]) as reader:
            ends = (await reader.end_offsets())[topic]
        deadline = time.monotonic() + DEADLINE_S
        while not await self._settled(names, ends):
            assert time.monotonic() < deadline, [
                await self.clients[name].get("/v1/status") for name in names
            ]
            await asyncio.sleep(0.1)

    async def _settled(self, names: tuple[str, ...], ends: dict[int, int]) -> bool:
        here: list[int] = []
        for name in names:
            status = await self.clients[name].get("/v1/status")
            partitions, offsets = status["partitions"], status["offsets"][USER_EVENTS]
            if partitions["assigned"] != partitions["here"] or not partitions["here"]:
                return False
            here += partitions["here"]
            if set(map(int, offsets)) != set(partitions["here"]):
                return False
            if any(offsets[str(number)] < ends[number] for number in partitions["here"]):
                return False
        return sorted(here) == sorted(EVERYTHING)

    async def check(self, truth: Truth, *names: str) -> None:
        """Every history, asked of every worker, is the truth."""
        await self.settled(*names)
        for name in names:
            for user_id in USERS:
                shown = await self.clients[name].get(f"/v1/users/{user_id}")
                ids = [event["event_id"] for event in shown["events"]]
                assert ids == truth.history(user_id), (name, shown)


@asynccontextmanager
async def writing(truth: Truth) -> AsyncIterator[None]:
    """Events come all the time meanwhile."""

    enough = False

    async def write() -> None:
        while not enough:
            await truth.write(1)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        # Not cancelled: what the truth counts must have been sent.
        enough = True
        await task


async def ask(client: WorkerClient, user_id: int) -> dict[str, Any]:
    """Score over HTTP; while the user's owner is dead, that waits."""
    body = {"request_id": "h", "user_id": str(user_id), "k": 1, "deadline_ms": DEADLINE_MS}
    answer = await client.post("/v1/score", body)
    assert not answer["error"], answer
    return answer


@pytest.mark.timeout(400)
async def test_no_event_is_lost_or_doubled_when_workers_come_go_die_and_sleep(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topics.create_missing(kafka)
    cluster = Cluster(kafka, tmp_path, write_config(tmp_path, kafka, CONFIG), monkeypatch)
    try:
        async with Publisher(kafka) as publisher:
            truth = Truth(kafka, publisher, seed=1)
            await truth.write()
            await cluster.start("a")
            await cluster.check(truth, "a")

            # One is added, and is asked about everybody: what it does not own it passes on.
            async with writing(truth):
                await cluster.start("b")
                await cluster.settled("a", "b")
            await cluster.check(truth, "a", "b")
            asked = cluster.clients["a"]
            assert await asked.metric("headwater_requests_forwarded_total", outcome="answered")

            await passed_on_once(cluster)

            erased = await cluster.clients["a"].delete(f"/v1/users/{ERASED}")
            assert erased["gone"]
            assert erased["partition"] == partition_of(encode_id(ERASED), USER_PARTITIONS)
            truth.erase(ERASED)
            await cluster.check(truth, "a", "b")

            # One sleeps, and wakes up as if its users were still its own.
            user_of_b = await one_of(cluster.clients["b"])
            async with writing(truth):
                cluster.signal("b", signal.SIGSTOP)
                await in_time(cluster.clients["a"], user_of_b)
                await cluster.settled("a")
                await asyncio.sleep(1)
                cluster.signal("b", signal.SIGCONT)
                await asyncio.sleep(1)
            await cluster.check(truth, "a", "b")

            # One is killed; whoever asks for its users is answered as soon as they have moved.
            user_of_b = await one_of(cluster.clients["b"])
            owned = partition_of(encode_id(user_of_b), USER_PARTITIONS)
            async with writing(truth), Client(kafka) as client:
                await cluster.end("b", kill=True)
                answers = await asyncio.gather(
                    ask(cluster.clients["a"], user_of_b),
                    client.score(
                        ScoreRequest(request_id="k", user_id=user_of_b, k=1), timeout_s=DEADLINE_S
                    ),
                )
                assert str(owned) in answers[0]["offsets"][USER_EVENTS]
                assert owned in answers[1].offsets[USER_EVENTS]
            await cluster.check(truth, "a")

            # One comes again, and the other one stops in order.
            await cluster.start("b")
            await cluster.settled("a", "b")
            async with writing(truth):
                await cluster.end("a")
                await cluster.settled("b")
            await cluster.check(truth, "b")
            await cluster.end("b")

            # All is read from its beginning, without histories on disk and without checkpoints.
            for folder in tmp_path.glob("*/histories"):
                shutil.rmtree(folder)
            await recreate(kafka, USER_HISTORIES)
            await cluster.start("a")
            await cluster.check(truth, "a")
            await cluster.end("a")
    except WorkerUnreachable as error:
        raise AssertionError(error) from error
    finally:
        await cluster.end_all()


async def one_of(client: WorkerClient) -> int:
    """A user of this worker."""
    (owned, *_) = (await client.get("/v1/status"))["partitions"]["here"]
    return next(u for u in USERS if partition_of(encode_id(u), USER_PARTITIONS) == owned)


async def in_time(client: WorkerClient, user_id: int) -> None:
    """Who asks for a user whose owner sleeps is answered at the deadline, or by the next owner."""
    body = {"request_id": "h", "user_id": str(user_id), "k": 1}
    async with asyncio.timeout(FORWARDING_S):
        hasty = await client.post("/v1/score", {**body, "deadline_ms": 200})
        shown = await client.get(f"/v1/users/{user_id}?deadline_ms=200")
        patient = await client.post("/v1/score", {**body, "deadline_ms": DEADLINE_MS})
    assert hasty["error"]["code"] == shown["error"]["code"] == "not_owner"
    assert not patient["error"], patient


async def passed_on_once(cluster: Cluster) -> None:
    """A request that was passed on already is told where to go, and goes no further."""
    a, b = cluster.clients["a"], cluster.clients["b"]
    user_of_b = await one_of(b)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{a.url}/v1/users/{user_of_b}", headers={FORWARDED_HEADER: "c"}) as answer,
    ):
        assert answer.status == 421
        error = (await answer.json())["error"]
    assert error["code"] == "not_owner"
    assert b.url in error["message"]


async def recreate(kafka: Kafka, name: str) -> None:
    specs = [spec for spec in topics.topic_specs(kafka.prefix) if spec.name == kafka.topic(name)]
    await topics.delete(kafka, specs)
    await topics.create_missing(kafka, specs)

"""What is put to the test: a broker and workers, processes that can be hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from daemon.client import WorkerClient, WorkerUnreachable
from daemon.failure import Failed
from daemon.process import WorkerProcess, write_config
from stream import topics
from stream.broker import Broker
from stream.errors import StreamError
from stream.publish import Outgoing, Publisher
from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from .truth import EVENTS_KEPT, TOPICS

PROGRAM = Path(__file__).with_name("skewed.py")
SETTLE_S = 120.0
POLL_S = 0.1
# Of every worker: much happens in little time.
SETTINGS = {
    "index": {"seal_ads": 64, "compact_deltas": 2},
    "history": {"events": EVENTS_KEPT, "checkpoint_interval_s": 1.0},
    "snapshot": {"interval_s": 1.0},
}


class Unsettled(Exception):
    """The installation did not come to rest; the message says what it waits for."""


class Worker:
    """A worker, whatever has become of its process."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.folder = world.folder / name
        config = write_config(
            world.folder / f"{name}.toml", world.kafka, name, world.folder, SETTINGS
        )
        self._skew = world.folder / f"{name}.skew"
        self._skew.write_text("0")
        program = (str(PROGRAM), str(self._skew))
        self.process = WorkerProcess(config, world.folder / f"{name}.log", program)
        self.url = ""

    async def start(self) -> None:
        """Start it, and find out where it listens."""
        self.url = await self.process.start()

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def shift_clock(self, skew_s: float) -> None:
        """Have its clock go wrong by some seconds, from now on."""
        self._skew.write_text(f"{skew_s}")
        self.signal(signal.SIGUSR2)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process.running

    async def ask(self, path: str) -> dict[str, object]:
        """GET a JSON object."""
        async with WorkerClient(self.url) as client:
            return await client.get(path)


class World:
    """Use it as `async with`; it ends every process that it started."""

    def __init__(self, folder: Path, jars: Path, workers: int = 2) -> None:
        self.folder = folder
        self.broker = Broker(folder / "kafka", lib=jars)
        self.kafka = Kafka(self.broker.start())
        self.workers = [Worker(self, f"worker-{number}") for number in range(workers)]
        self.spare = Worker(self, "spare")

    async def __aenter__(self) -> World:
        await topics.create_missing(self.kafka)
        for worker in self.workers:
            await worker.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in (*self.workers, self.spare):
            if worker.running:
                worker.signal(signal.SIGCONT)
                await worker.process.kill()
        await asyncio.to_thread(self.broker.stop)

    async def write(self, records: Iterable[Outgoing]) -> None:
        """Write records, the whole burst again until all of it is taken."""
        burst = list(records)
        until = time.monotonic() + SETTLE_S
        while True:
            try:
                async with asyncio.timeout(20), Publisher(self.kafka) as publisher:
                    return await publisher.send_all(burst)
            except (StreamError, TimeoutError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(POLL_S)

    async def ends(self) -> dict[str, dict[int, int]]:
        """Topic -> partition -> the offset after its newest record."""
        async with TopicReader(self.kafka, map(self.kafka.topic, TOPICS)) as reader:
            ends = await reader.end_offsets()
        return {topic: ends[self.kafka.topic(topic)] for topic in TOPICS}

    async def settle(self) -> None:
        """Have every worker running, ready, and at the ends of its topics; no user on two of them.

        Raises:
            Unsettled: it does not come to that.
        """
        until = time.monotonic() + SETTLE_S
        waiting = "the broker"
        while time.monotonic() < until:
            try:
                await self._revive()
                if (waiting := await self._behind(await self.ends())) == "":
                    return
            except (StreamError, WorkerUnreachable, Failed) as error:
                waiting = str(error)
            await asyncio.sleep(POLL_S)
        raise Unsettled(f"after {SETTLE_S:g} s: {waiting}; logs are in {self.folder}")

    async def _revive(self) -> None:
        for worker in self.workers:
            if not worker.running:
                await worker.start()

    async def _behind(self, ends: dict[str, dict[int, int]]) -> str:
        """What some worker has not done yet; nothing is the empty string."""
        here: list[int] = []
        for worker in self.workers:
            status = await worker.ask("/v1/status")
            if not status["ready"]:
                return f"{worker.name}: {status['reasons']}"
            offsets: dict[str, dict[str, int]] = status["offsets"]  # type: ignore[assignment]
            owned: dict[str, list[int]] = status["partitions"]  # type: ignore[assignment]
            here += owned["here"]
            wanted = {ADS: ends[ADS], ADS_CONTROL: ends[ADS_CONTROL]}
            wanted[USER_EVENTS] = {number: ends[USER_EVENTS][number] for number in owned["here"]}
            for topic, partitions in wanted.items():
                for partition, end in partitions.items():
                    if offsets.get(topic, {}).get(str(partition), 0) < end:
                        return f"{worker.name}: {topic} {partition} before {end}: {offsets}"
        # One that was frozen believes for a moment that it has what others took over.
        return f"users are at {here}" if sorted(here) != sorted(ends[USER_EVENTS]) else ""

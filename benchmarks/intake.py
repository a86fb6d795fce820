"""The way from Kafka into state: speed, freshness and bootstrap, on a broker of its own.

Ads of 30 features in 10 fields, drawn by Zipf's law from 100,000, and events of
5 features. Rates are records per CPU second of the whole process that reads
them, its start taken off; the bare client reads the same topics with aiokafka's
`getmany` and decodes each batch with msgspec, and keeps nothing. Freshness is
the worker's own histogram, from record time to retrievable. Bootstraps are wall
time: from a topic without what an empty start takes, from a snapshot with it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from daemon.client import WorkerClient
from daemon.demo.arrival import Arrival
from daemon.demo.latency import buckets, quantile
from daemon.process import WorkerProcess, write_config
from daemon.rows import Rows
from stream import topics
from stream.broker import Broker
from stream.codec import encode_ad, encode_event, encode_id
from stream.publish import Outgoing, Publisher
from stream.reader import TopicReader
from stream.records import Ad, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, USER_EVENTS

from . import command

FEATURES = 100_000
FIELDS = 10
PER_AD = 30
ADVERTISERS = 600
USERS = 20_000
BODIES = 20_000

EVENT_FIELDS = ("product", "brand", "type", "department", "store")
POLL_MS = 200
BARE_RECORDS = 2_000
TICK_S = 0.01
FRESHNESS = "headwater_ad_freshness_seconds"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    ads: int
    events: int
    paces: tuple[int, ...]
    paced_s: float


# Twenty seconds see seals, compactions and the broker's flushes.
FULL = Sizes(ads=1_000_000, events=500_000, paces=(100, 10_000), paced_s=20.0)
QUICK = Sizes(ads=50_000, events=50_000, paces=(100, 2_000), paced_s=5.0)


class BareAd(msgspec.Struct):
    """What a reader who trusts the topic would decode an ad to."""

    version: int
    advertiser: str
    campaign: str
    features: dict[str, list[str]]


class BareEvent(msgspec.Struct):
    """The same of an event."""

    event_id: str
    action: str
    time_ms: int
    value: float
    features: dict[str, list[str]]
    ad_id: str | None = None


def bodies() -> list[bytes]:
    """Ads of many kinds, without their ids."""
    random = np.random.default_rng(0)
    shares = np.arange(1, FEATURES + 1) ** -1.1
    bounds = np.cumsum(shares / shares.sum())
    version = time.time_ns() // 1_000_000
    written = []
    for number in range(BODIES):
        # A few more are drawn than are taken: some come twice.
        drawn = np.unique(np.searchsorted(bounds, random.random(2 * PER_AD)))
        features: dict[str, list[str]] = {}
        for feature in random.permutation(drawn)[:PER_AD].tolist():
            features.setdefault(f"field{feature % FIELDS}", []).append(f"value{feature}")
        ad = Ad(
            version=version,
            advertiser=f"advertiser{number % ADVERTISERS}",
            campaign=f"campaign{number % (10 * ADVERTISERS)}",
            features={name: tuple(values) for name, values in features.items()},
        )
        written.append(encode_ad(ad))
    return written


def ads(kafka: Kafka, written: list[bytes], ad_ids: Iterable[int]) -> Iterator[Outgoing]:
    """Upserts of the given ads."""
    topic = kafka.topic(ADS)
    for ad_id in ad_ids:
        yield topic, encode_id(ad_id), written[ad_id % len(written)], ()


def events(kafka: Kafka, count: int) -> Iterator[Outgoing]:
    """Events of many users, oldest first."""
    random = np.random.default_rng(1)
    users = random.integers(0, USERS, count).tolist()
    products = random.integers(0, FEATURES, count).tolist()
    topic = kafka.topic(USER_EVENTS)
    now_ms = time.time_ns() // 1_000_000
    for number, (user_id, product) in enumerate(zip(users, products, strict=True)):
        features: dict[str, tuple[str, ...]]
        features = {name: (f"{name}{product}",) for name in EVENT_FIELDS}
        event = UserEvent(f"e{number}", None, "buy", now_ms - count + number, 3.99, features)
        yield topic, encode_id(user_id), encode_event(event), ()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all threads."""
    # utime and stime, counted from behind the name in brackets; in hundredths.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@dataclass(frozen=True)
class Start:
    """What a start took, from the process's first moment until it was ready."""

    cpu_s: float
    wall_s: float


class Bench:
    """A broker, a folder for workers, and the rows so far."""

    def __init__(self, bootstrap: str, folder: Path, sizes: Sizes, retriever: str) -> None:
        self.rows = Rows()
        self._bootstrap = bootstrap
        self._folder = folder
        self._sizes = sizes
        self._retriever = retriever
        self._bodies = bodies()

    async def run(self) -> None:
        """Everything, one after the other."""
        await self._start(await self._topics("warm"))  # compiles the kernels
        idle = [await self._start(await self._topics(f"idle{turn}")) for turn in range(2)]
        cpu, wall = min(start.cpu_s for start in idle), min(start.wall_s for start in idle)
        self._add("start_s", "headwater", wall, "s", len(idle))
        await self._bootstrap_ads(cpu, wall)
        await self._bootstrap_events(cpu)
        without = await self._freshness("none")
        if self._retriever != "none":
            used_us = await self._freshness(self._retriever)
            for pace, count in self._paced():
                value = used_us[pace] - without[pace]
                self._add(f"embedding_cpu_us_per_ad@{pace}/s", "headwater", value, "us", count)

    def _paced(self) -> list[tuple[int, int]]:
        """Each pace, and how many ads that is in all."""
        return [(pace, int(pace * self._sizes.paced_s)) for pace in self._sizes.paces]

    async def _bootstrap_ads(self, idle_cpu_s: float, idle_wall_s: float) -> None:
        count = self._sizes.ads
        kafka = await self._topics("ads")
        await self._publish(kafka, ads(kafka, self._bodies, range(count)))
        start = await self._start(kafka)
        self._add("ads_per_cpu_s", "headwater", count / (start.cpu_s - idle_cpu_s), "ads/s", count)
        rate = count / await bare(kafka, ADS, BareAd)
        self._add("ads_per_cpu_s", "bare_client", rate, "ads/s", count)
        rate = count / (start.wall_s - idle_wall_s)
        self._add("bootstrap_topic_ads_per_s", "headwater", rate, "ads/s", count)
        # Its own snapshot, written when it stopped.
        again = await self._start(kafka)
        name = "1m" if count == 1_000_000 else f"{count // 1_000}k"
        self._add(f"bootstrap_snapshot_{name}_s", "headwater", again.wall_s, "s", count)

    async def _bootstrap_events(self, idle_cpu_s: float) -> None:
        count = self._sizes.events
        kafka = await self._topics("events")
        await self._publish(kafka, events(kafka, count))
        start = await self._start(kafka)
        rate = count / (start.cpu_s - idle_cpu_s)
        self._add("events_per_cpu_s", "headwater", rate, "events/s", count)
        rate = count / await bare(kafka, USER_EVENTS, BareEvent)
        self._add("events_per_cpu_s", "bare_client", rate, "events/s", count)

    async def _freshness(self, retriever: str) -> dict[int, float]:
        """New ads at a pace, and nothing else: how long until a query can return them.

        Returns:
            The worker's CPU time per ad by pace, microseconds.
        """
        used_us = {}
        suffix = "" if retriever == self._retriever else f"/{retriever}"
        kafka = await self._topics(f"fresh-{retriever}")
        worker = self._worker(kafka, retriever)
        try:
            async with (
                WorkerClient(await worker.start()) as client,
                Publisher(kafka) as publisher,
                Arrival(kafka, client) as arrival,
            ):
                await worker.wait_ready(client)
                next_id = 0
                for pace, count in self._paced():
                    before = buckets(await client.text("/metrics"), FRESHNESS, "total")
                    used_s = cpu_s(worker.pid)
                    await paced(
                        publisher, kafka, self._bodies, range(next_id, next_id + count), pace
                    )
                    await arrival.wait()
                    used_s = cpu_s(worker.pid) - used_s
                    after = buckets(await client.text("/metrics"), FRESHNESS, "total")
                    next_id += count
                    for name, q in (("p50", 0.5), ("p99", 0.99)):
                        axis = f"freshness_{name}_ms@{pace}/s{suffix}"
                        value = quantile(before, after, q) * 1e3
                        self._add(axis, "headwater", value, "ms", count)
                    axis = f"worker_cpu_us_per_ad@{pace}/s{suffix}"
                    used_us[pace] = used_s / count * 1e6
                    self._add(axis, "headwater", used_us[pace], "us", count)
        finally:
            await worker.stop()
        return used_us

    async def _start(self, kafka: Kafka) -> Start:
        """Start a worker without models and stop it when it is ready."""
        worker = self._worker(kafka, "none")
        began = time.monotonic()
        try:
            async with WorkerClient(await worker.start()) as client:
                await worker.wait_ready(client)
                start = Start(cpu_s(worker.pid), time.monotonic() - began)
        finally:
            await worker.stop()
        return start

    async def _topics(self, name: str) -> Kafka:
        kafka = Kafka(self._bootstrap, f"{name}-")
        await topics.create_missing(kafka)
        return kafka

    async def _publish(self, kafka: Kafka, records: Iterable[Outgoing]) -> None:
        async with Publisher(kafka) as publisher:
            await publisher.send_all(records)

    def _worker(self, kafka: Kafka, retriever: str) -> WorkerProcess:
        config = write_config(
            self._folder / f"{kafka.prefix}{retriever}.toml",
            kafka,
            f"{kafka.prefix}worker",
            self._folder,
            {"models": {"retriever": retriever}},
        )
        return WorkerProcess(config, config.with_suffix(".log"))

    def _add(self, axis: str, system: str, value: float, unit: str, n: int) -> None:
        self.rows.add(axis, value, unit, system=system, n=n)
        print(f"{axis:36s} {system:12s} {value:12,.2f} {unit}", flush=True)


async def paced(
    publisher: Publisher, kafka: Kafka, written: list[bytes], ad_ids: range, per_s: int
) -> None:
    """Publish ads at an even pace."""
    began = time.perf_counter()
    sent = 0
    while sent < len(ad_ids):
        due = min(int((time.perf_counter() - began) * per_s), len(ad_ids))
        await publisher.send_all(ads(kafka, written, ad_ids[sent:due]))
        sent = due
        await asyncio.sleep(TICK_S)


async def bare(kafka: Kafka, topic: str, record: type[msgspec.Struct]) -> float:
    """CPU seconds of this process in which the bare client reads a topic to its end."""
    decode = msgspec.json.Decoder(record).decode
    full = kafka.topic(topic)
    async with TopicReader(kafka, [full]) as reader:
        ends = (await reader.end_offsets())[full]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(full, number) for number in ends]
        consumer.assign(partitions)
        began = time.process_time()
        while any([await consumer.position(at) < ends[at.partition] for at in partitions]):
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=BARE_RECORDS)
            for batch in batches.values():
                [decode(message.value) for message in batch]
        return time.process_time() - began
    finally:
        await consumer.stop()


def main() -> None:
    parser = command.parser("intake", __doc__, quick="small sizes")
    parser.add_argument(
        "--state-dir", type=Path, default=Path(".headwater"), help="where a checkpoint may be"
    )
    parser.add_argument("--retriever", default="retriever-demo", help="the checkpoint's name")
    arguments = parser.parse_args()
    # As in a worker: decoding makes containers and no cycles.
    gc.set_threshold(50_000, 20, 100)
    state_dir, retriever = arguments.state_dir.resolve(), arguments.retriever
    with TemporaryDirectory(prefix="headwater-intake-") as home:
        folder = Path(home)
        if (state_dir / "checkpoints" / retriever).is_dir():
            (folder / "checkpoints").symlink_to(state_dir / "checkpoints")
        else:
            print(f"no checkpoint {retriever} in {state_dir}: freshness without embedding")
            retriever = "none"
        broker = Broker(folder / "kafka", lib=state_dir / "kafka" / "lib")
        try:
            bench = Bench(broker.start(), folder, QUICK if arguments.quick else FULL, retriever)
            asyncio.run(bench.run())
        finally:
            broker.stop()
    if arguments.json:
        bench.rows.write(arguments.json)


if __name__ == "__main__":
    main()

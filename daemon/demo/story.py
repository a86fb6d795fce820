"""The demo's story, from an empty folder to a table of figures.

Owns the order of the scenes, the folder and the topics of its own run, and the figures that it
reports. Promises that nothing that it started is left running unless it is asked to keep it, and
that a scene that does not end as promised ends the demo with the reason.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stream import topics
from stream.broker import Broker
from stream.publish import Publisher
from stream.records import ScoredAd
from stream.settings import Kafka
from stream.topics import ADS

from .. import quality, training
from ..client import WorkerClient
from ..datasets import complete_journey as journey
from ..failure import Failed
from ..process import WorkerProcess, write_config
from ..progress import replay_bar
from ..replay import Replay
from ..rows import Rows
from . import latency
from .arrival import Arrival
from .by_hand import OWN_IDS, Hand, same

# The models learn from the weeks before, and are asked about these.
FIRST_WEEK, LAST_WEEK = quality.WEEKS

PACED_S = 20
PACED_ADS_PER_S = 100
LATENCY_REQUESTS = 300
QPS_CALLERS = 2
QPS_S = 20.0
# Answers that are compared before and after the worker was killed.
COMPARED_ANSWERS = 50
SEED = 7
# More than are ever live at once: of a shorter answer the order by score could not be told.
ALL_ADS = 1_000


@dataclass(frozen=True)
class Options:
    """How the demo is run.

    Attributes:
        state_dir: where checkpoints and the run's own folder are.
        bootstrap: a running Kafka to use; None starts one.
        keep: leave everything running at the end.
        began_s: when the run began, set-up included; Unix time.
    """

    state_dir: Path
    bootstrap: str | None
    keep: bool
    began_s: float


class Story:
    """One run of the demo."""

    def __init__(self, options: Options, console: Console) -> None:
        self.rows = Rows()
        self._options = options
        self._say = console
        self._run = f"demo-{uuid4().hex[:8]}"
        self._folder = options.state_dir / self._run
        # Beside the folder: it is what is left to read when a run failed.
        self._log = options.state_dir / "demo.log"

    async def tell(self) -> None:
        """Play every scene."""
        self._folder.mkdir(parents=True)
        async with AsyncExitStack() as ours:
            ours.callback(shutil.rmtree, self._folder, ignore_errors=True)
            kafka = await self._kafka(ours)
            trained = await self._train()
            self._log.unlink(missing_ok=True)
            worker = WorkerProcess(self._config(kafka), self._log)
            ours.push_async_callback(worker.stop)
            async with AsyncExitStack() as connections:
                client = await self._start(worker, connections)
                await self._play(kafka, worker, client, connections)
            run_s = time.time() - self._options.began_s
            self.rows.add("first_run_s" if trained else "run_s", run_s, "s")
            if self._options.keep:
                self._kept(worker, client, kafka)
                ours.pop_all()

    async def _play(
        self,
        kafka: Kafka,
        worker: WorkerProcess,
        client: WorkerClient,
        connections: AsyncExitStack,
    ) -> None:
        """The scenes on a running worker."""
        publisher = await connections.enter_async_context(Publisher(kafka))
        arrival = await connections.enter_async_context(Arrival(kafka, client))
        recording = journey.Recording(kafka, FIRST_WEEK, LAST_WEEK)
        replay = Replay(kafka, publisher, recording)
        week = quality.Week(FIRST_WEEK)
        hand = Hand(client, publisher, kafka)
        await self._replay(replay, week, arrival)
        listed = _listed(kafka, recording, week)
        await self._freshness(hand, arrival, list(listed.values()))
        await self._by_hand(hand, week, listed)
        await self._kill(worker, hand, week, arrival)
        await self._speed(worker, hand, week)
        await self._quality(hand, replay, week, arrival)

    async def _kafka(self, stack: AsyncExitStack) -> Kafka:
        """A broker of the demo's own, or the topics of its own on the one that was named."""
        self._scene("Kafka")
        bootstrap = self._options.bootstrap
        if bootstrap is None:
            home = self._folder / "kafka"
            broker = Broker(home, self._options.state_dir / "kafka" / "lib")
            stack.callback(broker.stop)
            with self._say.status("starting Apache Kafka"):
                bootstrap = await asyncio.to_thread(broker.start)
        kafka = Kafka(bootstrap, f"{self._run}-")
        await topics.create_missing(kafka)
        if self._options.bootstrap is not None:
            stack.push_async_callback(topics.delete, kafka)
        self._done(f"Kafka at {bootstrap}, topics {kafka.prefix}*")
        return kafka

    async def _train(self) -> bool:
        """Both models on the weeks before the replay; false if that had been done."""
        self._scene("Models")
        trained = False
        for kind in training.Kind:
            folder = self._options.state_dir / "checkpoints" / f"{kind}-demo"
            if training.usable(kind, folder, FIRST_WEEK):
                self._done(f"{kind}: trained before, in {folder}")
                continue
            began = time.monotonic()
            await self._headwater("train", kind, "--until-week", str(FIRST_WEEK))
            seconds = time.monotonic() - began
            self.rows.add("train_s", seconds, "s", system=f"headwater_{kind}")
            self._done(f"{kind}: trained on weeks 1 to {FIRST_WEEK - 1} in {seconds:.0f} s")
            trained = True
        return trained

    async def _headwater(self, *arguments: str) -> None:
        """Run a verb on this screen, in a process that ends with the demo and frees its memory."""
        state = f"worker.state_dir={self._options.state_dir}"
        command = (sys.executable, "-m", "daemon", *arguments, "--set", state)
        process = await asyncio.create_subprocess_exec(*command)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if code:
            raise Failed(f"headwater {' '.join(arguments)} ended with exit code {code}")

    def _config(self, kafka: Kafka) -> Path:
        return write_config(
            self._folder / "headwater.toml",
            kafka,
            self._run,
            self._options.state_dir.resolve(),
            {
                "kafka": {"group": self._run},
                "clock": {"mode": "replay"},
                "models": {"retriever": "retriever-demo", "ranker": "ranker-demo"},
            },
        )

    async def _start(self, worker: WorkerProcess, stack: AsyncExitStack) -> WorkerClient:
        self._scene("A worker")
        began = time.monotonic()
        with self._say.status("starting headwater serve (the first start compiles the kernels)"):
            client = await stack.enter_async_context(WorkerClient(await worker.start()))
            await worker.wait_ready(client)
        self._done(f"ready after {time.monotonic() - began:.1f} s at {client.url}")
        return client

    async def _replay(self, replay: Replay, week: quality.Week, arrival: Arrival) -> None:
        """Everything until a Monday 00:00 (New York), published and applied."""
        self._scene(f"Replay of weeks 1 to {FIRST_WEEK - 1}")
        began = time.monotonic()
        with replay_bar(self._say, replay.time_ms, replay.start_ms, week.now_ms) as report:
            progress = await replay.until(week.now_ms, report)
        with self._say.status("the worker catches up"):
            behind_s = await arrival.wait()
        records, seconds = progress.records.total(), time.monotonic() - began
        self.rows.add("records_per_s", records / seconds, "records/s", n=records)
        self._done(
            f"{records:,} records published and applied in {seconds:.1f} s "
            f"({records / seconds:,.0f}/s), the last {behind_s:.1f} s of it to catch up"
        )

    async def _freshness(self, hand: Hand, arrival: Arrival, ads: list[bytes]) -> None:
        """New ads at a steady pace and nothing else: how long until a query can return them."""
        self._scene(f"Freshness: {PACED_ADS_PER_S} new ads a second for {PACED_S} s")
        metric = "headwater_ad_freshness_seconds"
        before = latency.buckets(await hand.client.text("/metrics"), metric, "total")
        with self._say.status("publishing"):
            count = PACED_S * PACED_ADS_PER_S
            ids = await hand.publish_paced(ads, count, PACED_ADS_PER_S)
            await arrival.wait()
        after = latency.buckets(await hand.client.text("/metrics"), metric, "total")
        p50, p99 = (latency.quantile(before, after, q) * 1e3 for q in (0.5, 0.99))
        self.rows.add("freshness_p50_ms", p50, "ms", n=count)
        self.rows.add("freshness_p99_ms", p99, "ms", n=count)
        await hand.remove(ids)
        await arrival.wait()
        self._done(f"record time to retrievable: p50 {p50:.1f} ms, p99 {p99:.1f} ms")

    async def _by_hand(self, hand: Hand, week: quality.Week, listed: dict[int, bytes]) -> None:
        """An ad is created, found, paused, gone."""
        self._scene("By hand")
        request = hand.request(week.questions[0])
        best = int((await hand.ask(request))["ads"][0]["ad_id"])
        ad_id = OWN_IDS - 1
        created_ms = await hand.create(ad_id, listed[best], request)
        self._done(f"ad {ad_id}, a twin of {best}: created, in an answer {created_ms:.0f} ms later")
        paused_ms, reasons = await hand.pause(ad_id, request)
        self._done(f"paused: gone from the answers {paused_ms:.0f} ms later: {', '.join(reasons)}")
        await hand.remove([ad_id])

    async def _kill(
        self, worker: WorkerProcess, hand: Hand, week: quality.Week, arrival: Arrival
    ) -> None:
        """kill -9, start again, ask again."""
        self._scene("kill -9")
        requests = [
            hand.request(question, k=100, seed=SEED, now_ms=question.now_ms)
            for question in week.questions[:COMPARED_ANSWERS]
        ]
        before = [await hand.ask(request) for request in requests]
        began = time.monotonic()
        await worker.kill()
        with self._say.status("killed; starting again"):
            hand.client.move(await worker.start())
            await worker.wait_ready(hand.client)
            await arrival.wait()
        ready_s = time.monotonic() - began
        self.rows.add("ready_again_s", ready_s, "s")
        after = [await hand.ask(request) for request in requests]
        equal = sum(map(same, before, after))
        self.rows.add("answers_equal_after_kill", equal == len(requests), "bool", n=len(requests))
        self._done(
            f"ready again after {ready_s:.1f} s; {equal} of {len(requests)} answers the same"
        )
        if equal < len(requests):
            raise Failed("answers differ after the restart")

    async def _speed(self, worker: WorkerProcess, hand: Hand, week: quality.Week) -> None:
        """Latency of one caller, then requests per second of several."""
        self._scene("Requests")
        draw = random.Random(SEED)
        questions = [draw.choice(week.questions) for _ in range(LATENCY_REQUESTS)]

        async def ask(at: int) -> int:
            return len((await hand.ask(hand.request(questions[at % len(questions)])))["ads"])

        before = await _candidates(hand.client)
        with self._say.status(f"{LATENCY_REQUESTS} requests, one caller"):
            seconds = await latency.timed(ask, LATENCY_REQUESTS)
        p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
        with self._say.status(f"{QPS_CALLERS} callers for {QPS_S:.0f} s"):
            calls, elapsed_s = await latency.closed_loop(ask, QPS_CALLERS, QPS_S)
        self.rows.add("request_p50_ms", p50, "ms", n=len(seconds))
        self.rows.add("request_p99_ms", p99, "ms", n=len(seconds))
        self.rows.add("qps", calls / elapsed_s, "requests/s", n=calls)
        ads, requests = await _candidates(hand.client) - before
        self.rows.add("candidates", ads / requests, "ads", n=int(requests))
        self.rows.add("rss_mb", worker.resident_mb(), "MB")
        self._done(f"one caller: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        self._done(f"{QPS_CALLERS} callers: {calls / elapsed_s:.1f} requests/s")

    async def _quality(
        self, hand: Hand, replay: Replay, first: quality.Week, arrival: Arrival
    ) -> None:
        """Recall of the coming week's purchases, asked on each Monday at 00:00."""
        self._scene(f"Quality: what {quality.USERS} users buy in each of two weeks")

        async def weeks() -> AsyncIterator[quality.Week]:
            yield first
            for number in quality.WEEKS[1:]:
                week = quality.Week(number)
                with replay_bar(self._say, replay.time_ms, replay.start_ms, week.now_ms) as report:
                    await replay.until(week.now_ms, report)
                await arrival.wait()
                yield week

        async def scorer(question: quality.Question) -> list[ScoredAd]:
            answer = await hand.ask(hand.request(question, k=ALL_ADS))
            return [ScoredAd(int(ad["ad_id"]), ad["score"], ad["value"]) for ad in answer["ads"]]

        recalls = await quality.measure(scorer, weeks())
        for system, recall in recalls.items():
            self.rows.add_mean(f"recall@{quality.K}", recall, "share", system=system)
            self._done(f"recall@{quality.K} {system:<20} {recall.value:.3f} ± {recall.spread:.3f}")

    def _kept(self, worker: WorkerProcess, client: WorkerClient, kafka: Kafka) -> None:
        """Where to look, and how to end what goes on running."""
        self._scene("Kept running")
        for path in ("/v1/status", "/metrics", "/readyz?verbose"):
            self._done(f"{client.url}{path}")
        self._done(f"Kafka at {kafka.bootstrap}, topics {kafka.prefix}*")
        self._done(f"state: {self._folder}, the worker's log: {self._log}")
        self._done(f"end the worker: kill {worker.pid}")
        if self._options.bootstrap is None:
            state = f"--set worker.state_dir={self._folder}"
            self._done(f"end Kafka: headwater broker stop {state}")

    def _scene(self, title: str) -> None:
        self._say.rule(f"[bold]{title}", align="left")

    def _done(self, text: str) -> None:
        self._say.print(f"  {text}")


def _listed(kafka: Kafka, recording: journey.Recording, week: quality.Week) -> dict[int, bytes]:
    """The records of the week's ads, by ad id."""
    return {
        int(key): value
        for topic, key, value, _ in recording.ad_changes(week.now_ms)
        if topic == kafka.topic(ADS) and key is not None and value is not None
    }


async def _candidates(client: WorkerClient) -> NDArray[np.float64]:
    """How many ads retrieval has handed to the ranker so far, and in how many requests."""
    metric = "headwater_request_candidates"
    return np.array([await client.metric(f"{metric}_{part}") for part in ("sum", "count")])

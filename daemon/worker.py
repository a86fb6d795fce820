"""One worker: the parts of the process, wired, started in order and stopped in order.

Owns the life of the process between its first line and its exit. Promises that a worker takes no
request before it is warm and caught up, that SIGTERM ends in a snapshot and exit code 0, and that
a part that dies takes the worker with it instead of leaving half of one.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NoReturn

import structlog
from aiohttp import web

from monitoring.freshness import LagTracker
from monitoring.health import Readiness
from monitoring.loop import watch_event_loop
from stream import topics
from stream.formats import FORMATS
from stream.histories import HistoryStore
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import ErrorBody
from stream.requests import RequestAgent
from stream.topics import ADS, ADS_CONTROL, SCORE_REQUESTS, USER_EVENTS

from . import api, cluster, contact, counters, device, models, watchdog
from .applied import Applied
from .catchup import Progress, catch_up
from .checkpoints import Checkpoints
from .clock import Clock, ReplayClock, WallClock, wall_ms
from .contact import KafkaContact
from .departures import Departures
from .grace import Grace
from .histories import EncodedHistories, Expiry
from .impressions import Impressions
from .index_writer import IndexWriter
from .ingest import IngestLoop, IntakeThread
from .loops import Loops
from .membership import Membership
from .models import Models
from .origin import AD_TOPICS, HISTORIES, READ_TOPICS, Origin, refuse_foreign
from .pending import PendingWatch
from .rejections import Rejections
from .requests import RequestDesk
from .scoring import RequestRefused, Scorer
from .settings import Settings
from .state import NOTHING_OPEN, State
from .watchdog import Watch, Watchdog

log = structlog.get_logger(__name__)

CONDITIONS = (watchdog.CONDITION, contact.CONDITION, ADS_CONTROL, ADS, USER_EVENTS, "requests")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# About as many containers as one batch of events holds.
GC_YOUNG_OBJECTS = 50_000
AGENT_CHECK_S = 1.0
# A server on these is reached by the machine's name.
EVERY_ADDRESS = ("", "0.0.0.0", "::")
# All clients together must end well within the 30 s that orchestrators wait by default.
STOP_PART_S = 5.0
# A full queue of slow requests.
DRAIN_S = 10.0
# Requests are answered by then; this is for callers that keep their connection busy.
HTTP_CLOSE_S = 1.0


class Worker:
    """Everything of one process; `run` is its whole life.

    Args:
        settings: all of them.
        listener: where HTTP is served, from the first moment on.

    Raises:
        ConfigurationError: the device that is to search cannot be used.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.settings = settings
        counters.begin()
        self.readiness = Readiness(CONDITIONS, self._tell_readiness)
        self._listener = listener
        self._device = device.choose(settings.index)
        self._state: State | None = None
        self._membership: Membership | None = None
        self._kafka = cluster.kafka(settings.kafka, settings.kafka.group)
        self._clock: Clock = WallClock() if settings.clock.mode == "wall" else ReplayClock()
        self._expiry = Expiry(self._clock, settings.history.max_age_days)
        self._publisher = Publisher(self._kafka)
        self._lag = LagTracker()
        self._applied = Applied(self._lag)
        self._intake = IntakeThread()
        self._ingest: list[IngestLoop[Any]] = []
        self._contact = KafkaContact(
            self._kafka, READ_TOPICS, self.readiness, settings.kafka.unreachable_s
        )
        self._grace = Grace(settings.shutdown.grace_s)
        self._replays: dict[str, Progress] = {}
        self._caught_up: set[str] = set()

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop; a second signal ends the process at once.

        What has not stopped in the grace time does not delay the end.

        Raises:
            ConfigurationError: the configuration, the topics or the checkpoints do not fit.
            StreamError: Kafka cannot be used.
            ExceptionGroup: a part died.
        """
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self._serve())
        stopping = False

        def stop() -> None:
            nonlocal stopping
            stopping = True
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
                # Python's own handler of SIGINT would wait for the loop.
                signal.signal(number, signal.SIG_DFL)
            self._grace.begin()
            self.readiness.mark_stopping()
            log.info("worker_stopping")
            serving.cancel()

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await serving
        except asyncio.CancelledError:
            if not stopping:
                raise
        log.info("worker_stopped")

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` answers; what is not open yet, or not any more, is empty."""
        return {
            "worker": self.settings.worker.id,
            "ready": self.readiness.ready,
            "reasons": self.readiness.reasons(),
            "now_ms": self._clock.now_ms(),
            "kafka": self._contact.status(),
            "lag": {topic: self._lag.lag(topic) for topic in (ADS, ADS_CONTROL, USER_EVENTS)},
            "paused": {
                loop.applier.topic: loop.paused for loop in self._ingest if loop.paused is not None
            },
            "replay": {topic: replay.status() for topic, replay in self._replays.items()},
            "device": self._device,
            **(self._membership.status() if self._membership else {}),
            **(self._state.status() if self._state else NOTHING_OPEN),
        }

    @property
    def desk(self) -> RequestDesk:
        """Where requests are answered.

        Raises:
            RequestRefused: it is not open.
        """
        return self._opened().desk

    def ad(self, ad_id: int) -> dict[str, Any]:
        """What `GET /v1/ads/{ad_id}` answers.

        Raises:
            RequestRefused: the index is not open.
        """
        return self._opened().ad(ad_id)

    async def user(self, user_id: int) -> dict[str, Any]:
        """What `GET /v1/users/{user_id}` answers.

        Raises:
            RequestRefused: the users are not here yet.
        """
        return await asyncio.to_thread(self._joined().users.show, user_id)

    async def erase(self, user_id: int, patience_s: float) -> dict[str, Any]:
        """What `DELETE /v1/users/{user_id}` answers.

        Raises:
            RequestRefused: as `user`, or Kafka has not taken the record of it.
        """
        return await self._joined().users.erase(user_id, patience_s)

    async def elsewhere(
        self, http: web.Request, user_id: int, patience_s: float, answer_s: float
    ) -> web.Response | ErrorBody | None:
        """What answers a request about a user of another worker; None if the user is here."""
        if self._membership is None or not self.readiness.ready:
            return None  # the caller is told what this worker waits for
        return await self._membership.elsewhere(http, user_id, patience_s, answer_s)

    async def digest(self, listed: Collection[int]) -> dict[str, Any]:
        """What `GET /v1/digest` answers.

        Raises:
            RequestRefused: as `ad`.
        """
        return {"worker": self.settings.worker.id, **await self._opened().digest(listed)}

    def _opened(self) -> State:
        if self._state is None:
            raise self._not_ready()
        return self._state

    def _joined(self) -> Membership:
        if self._membership is None or not self.readiness.ready:
            raise self._not_ready()
        return self._membership

    def _not_ready(self) -> RequestRefused:
        reasons = self.readiness.reasons().items()
        return RequestRefused("not_ready", "; ".join(f"{k}: {v}" for k, v in reasons))

    def _close_state(self) -> None:
        self._state = None

    async def _serve(self) -> NoReturn:
        """Open the parts one by one; whatever ends this closes them in the reverse order."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            await self._listen(stack)
            await refuse_foreign(settings.worker_folder, self._kafka)
            # A topic that is missing when Faust starts is ignored by it for good: create first.
            await topics.ensure(self._kafka)
            origin = await Origin.find(self._kafka)
            origin.claim(settings.worker_folder)
            source = origin.source(USER_EVENTS)
            state = await self._open(stack, origin)
            store, desk = state.store, state.desk
            self.readiness.mark_started()

            # Batches in work are applied before the histories are closed.
            stack.push_async_callback(_stop_in_time, "intake", self._intake.idle)
            checkpoints = Checkpoints(store, self._intake, self._kafka, source, settings.history)
            forget = partial(desk.between_scores, state.histories.forget_changed)
            departures = Departures(store, checkpoints, forget)
            events_reader = TopicReader(self._kafka, [self._kafka.topic(USER_EVENTS)], only=())
            loops = Loops(
                self._kafka,
                origin,
                settings,
                self.readiness,
                self._intake,
                self._lag,
                self._applied,
                self._clock,
                self._publisher,
            )
            stack.push_async_callback(_stop_in_time, "readers", loops.stop)
            self._ingest = await loops.start(state, events_reader, self._expiry, departures.note)
            stack.push_async_callback(self._snapshot, state.writer)
            stack.push_async_callback(_stop_in_time, "checkpoints", checkpoints.close)
            membership = Membership(
                settings,
                self._kafka,
                store,
                source,
                self._intake,
                events_reader,
                self._ingest[-1],
                self._applied,
                checkpoints,
                departures,
                desk,
                self._publisher,
                self._clock,
                self._expiry,
                partial(catch_up, self._ingest[-1], partial(self._replaying, USER_EVENTS)),
                partial(self._replayed, USER_EVENTS),
            )
            stack.push_async_callback(_stop_in_time, "directory", membership.stop)
            await membership.start(self._advertised_url())
            group = await stack.enter_async_context(asyncio.TaskGroup())
            watching = Watchdog(self._watches(desk), settings.watchdog, self.readiness, self._grace)
            group.create_task(self._part("watchdog", watching.run()))
            group.create_task(self._part("event loop watch", watch_event_loop()))
            group.create_task(self._part("Kafka contact", self._contact.run(origin.check)))
            group.create_task(self._part("snapshots", self._snapshots(state.writer)))
            for ingest in self._ingest:
                group.create_task(self._part(ingest.applier.topic, ingest.run()))
                if ingest.applier.topic in AD_TOPICS:
                    await catch_up(ingest, partial(self._replaying, ingest.applier.topic))
                    self._replayed(ingest.applier.topic)

            for name, part in membership.parts().items():
                group.create_task(self._part(name, part))
            stack.push_async_callback(_stop_in_time, "requests", desk.drain, DRAIN_S)
            stack.push_async_callback(_stop_in_time, "membership", membership.leave)
            # Before the agent starts: the first request may be there already.
            self.readiness.meet("requests")
            self._membership = membership
            agent = membership.agent
            stack.push_async_callback(_stop_in_time, "request agent", agent.stop)
            # Before the partitions go to others: these have less to read then.
            stack.push_async_callback(_stop_in_time, "last checkpoints", checkpoints.write_all)
            await agent.start()
            group.create_task(self._part("request agent", _watch(agent)))
            pending = PendingWatch(self._kafka, (*AD_TOPICS, USER_EVENTS), agent, self._lag)
            group.create_task(self._part("pending watch", pending.run()))
            log.info("group_joined")
            while True:
                await asyncio.sleep(3_600)

    async def _open(self, stack: AsyncExitStack, origin: Origin) -> State:
        """What requests are answered from: open, told to metrics, and warm."""
        settings = self.settings
        stack.callback(self._intake.close)
        loaded = await self._intake.run(models.load, settings)
        writer = await self._intake.run(
            IndexWriter.open, settings, loaded, self._clock, self._device, origin
        )
        store = HistoryStore.open(
            settings.worker_folder / HISTORIES, settings.history.events, origin.source(USER_EVENTS)
        )
        stack.callback(store.close)
        publisher = self._publisher
        await publisher.start()
        stack.push_async_callback(_stop_in_time, "publisher", publisher.stop)
        histories = EncodedHistories(store, loaded.encoder, settings.history.memory_budget_bytes)
        scorer = self._scorer(loaded, writer, store, histories)
        desk = RequestDesk(
            scorer,
            self.readiness,
            publisher,
            Rejections(SCORE_REQUESTS, settings.deadletters.score_requests, publisher),
            self._applied,
            self._kafka,
            settings.scoring,
            FORMATS[settings.formats.score_requests],
            FORMATS[settings.impressions.format],
        )
        self._state = state = State(self._clock, loaded, writer, store, histories, scorer, desk)
        stack.callback(self._close_state)
        state.export(self._device)
        await self._intake.run(state.warm)
        _calm_garbage_collector()
        return state

    def _watches(self, desk: RequestDesk) -> list[Watch]:
        limits = self.settings.watchdog
        loops = {loop.applier.topic: loop for loop in self._ingest}

        def standing_s(topic: str) -> float:
            """A topic that waits has said why, and no restart would help it."""
            loop = loops.get(topic)
            return 0.0 if loop is not None and loop.waiting else self._lag.standing_s(topic)

        threads = [
            Watch("intake", "intake thread", self._intake.activity.busy_s, limits.intake_s),
            Watch("scoring", "scoring thread", desk.activity.busy_s, limits.scoring_s),
        ]
        positions = [
            Watch("position", f"position on {name}", partial(standing_s, name), limits.position_s)
            for name in READ_TOPICS
        ]
        return threads + positions

    def _tell_readiness(self, ready: bool) -> None:
        if ready:
            log.info("worker_ready")
        else:
            log.info("worker_not_ready", reasons=self.readiness.reasons())

    def _replaying(self, topic: str, progress: Progress) -> None:
        self._replays[topic] = progress
        self.readiness.unmeet(topic, str(progress))

    def _replayed(self, topic: str) -> None:
        self._replays.pop(topic, None)
        self._caught_up.add(topic)
        self.readiness.meet(topic)

    async def _part(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a part; when it dies the worker is not alive any more, and says which and why."""
        try:
            await work
        except Exception as error:
            self.readiness.mark_failed(f"{name}: {error}")
            log.error("part_died", part=name, error=str(error))
            raise

    def _scorer(
        self, models: Models, writer: IndexWriter, store: HistoryStore, histories: EncodedHistories
    ) -> Scorer:
        return Scorer(
            models=models,
            features=writer.features,
            histories=histories,
            published=lambda: writer.published,
            event_offsets=store.next_offsets,
            events=store.read,
            expiry=self._expiry,
            clock=self._clock,
            settings=self.settings.scoring,
            query_bits=self.settings.index.query_bits,
            impressions=Impressions(self.settings.impressions, writer.features),
        )

    async def _listen(self, stack: AsyncExitStack) -> None:
        runner = web.AppRunner(
            api.application(self), access_log=None, shutdown_timeout=HTTP_CLOSE_S
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, self._listener).start()
        log.info("http_listening", url=self._url())

    def _url(self) -> str:
        return f"http://{self.settings.worker.host}:{self._listener.getsockname()[1]}"

    def _advertised_url(self) -> str:
        """Where other workers and callers reach this one."""
        worker = self.settings.worker
        if worker.host in EVERY_ADDRESS and not worker.advertised_url:
            return f"http://{socket.gethostname()}:{self._listener.getsockname()[1]}"
        return worker.advertised_url or self._url()

    async def _snapshots(self, writer: IndexWriter) -> NoReturn:
        while True:
            await asyncio.sleep(self.settings.snapshot.interval_s)
            await self._snapshot(writer)

    async def _snapshot(self, writer: IndexWriter) -> None:
        """Write what is published, with the moment up to which it is complete.

        Not before the topics were read to their end: until then, a deletion that is still to come
        may be forgotten by its topic at any time, and the snapshot could not be gone on from.
        """
        if not self._caught_up >= set(AD_TOPICS):
            return
        behind_s = max(self._lag.oldest_unapplied_s(topic) for topic in AD_TOPICS)
        await self._intake.run(writer.snapshot, wall_ms() - round(behind_s * 1e3))


async def _stop_in_time(
    part: str, stop: Callable[[], Coroutine[Any, Any, None]], limit_s: float = STOP_PART_S
) -> None:
    """Stop a part, but not for ever: clients of Kafka wait for a broker that may be gone."""
    try:
        await asyncio.wait_for(stop(), limit_s)
    except TimeoutError:
        log.warning("stop_timed_out", part=part, after_s=limit_s)


async def _watch(agent: RequestAgent) -> NoReturn:
    """Raise when the agent has ended on its own: a worker without it would only look alive."""
    while True:
        if (reason := agent.failure()) is not None:
            raise reason
        await asyncio.sleep(AGENT_CHECK_S)


def _calm_garbage_collector() -> None:
    """Keep the collector from walking compiled kernels and models again and again.

    Decoding makes many short-lived containers and no cycles, so a young collection finds nothing
    and a full one, a million objects that stay: it would be half of the intake's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)

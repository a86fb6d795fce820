"""Score requests: which partitions this worker owns, and the messages on them.

Owns a Faust app with one agent on `score-requests`. Promises that every message of an owned
partition is handed over, in order per partition, at least once; that no exception ends the agent or
is lost; that a worker which was killed and comes back under its own id, in time, gets its own
partitions back; and that one which stops gives them away at once. Decoding, deadlines and answers
are the callback's part, which must only enqueue: an agent that waits for answers handles one
request at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import faust
import structlog
from faust.types import EventT, StreamT
from faust.types.auth import CredentialsT

from .errors import BrokerUnavailable
from .leaving import leave_group
from .security import Security
from .settings import Kafka
from .topics import SCORE_REQUESTS

log = structlog.get_logger(__name__)

# How long the partitions of a worker that stopped or died wait for it; then the others get them.
# Kafka's own lower bound is 6 s.
SESSION_TIMEOUT_S = 6.0
# A third of the session is the usual most; more often finds a dead coordinator sooner.
HEARTBEAT_INTERVAL_S = 1.0
# Few enough that the event loop serves others between two batches.
MAX_POLL_RECORDS = 500


class RequestMessage(NamedTuple):
    """A message as it arrived: what `stream.codec` calls a `Message`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Record time, epoch milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class RequestAgent:
    """The agent of one worker. The topic must exist: Faust ignores missing ones for good.

    Args:
        kafka: the cluster.
        group: what the workers that share the requests have in common; the topics' prefix goes in
            front of it.
        worker_id: the worker's name in the group; unique among the workers that run.
        datadir: a folder of this worker's own, for Faust.
        on_request: called with every message, in order within a partition. It waits only while
            it cannot enqueue; what it raises is logged, and the message is dropped.
        on_assigned: told which partitions are owned from now on, or None when the group is about to
            decide anew.
    """

    def __init__(
        self,
        kafka: Kafka,
        group: str,
        worker_id: str,
        datadir: Path,
        on_request: Callable[[RequestMessage], Awaitable[None]],
        on_assigned: Callable[[frozenset[int] | None], None] = lambda _: None,
    ) -> None:
        self._kafka = kafka
        self._group = kafka.topic(group)
        self._worker_id = worker_id
        self._topic = kafka.topic(SCORE_REQUESTS)
        self._on_assigned = on_assigned
        self._on_request = on_request
        self._partitions: frozenset[int] = frozenset()
        self._next_offsets: dict[int, int] = {}
        self._assignments = 0
        self._starting: asyncio.Future[Any] | None = None
        self._app = faust.App(
            self._group,
            broker=[f"kafka://{server}" for server in kafka.bootstrap.split(",")],
            broker_client_id=kafka.client_id,
            broker_credentials=_credentials(kafka.security),
            broker_max_poll_records=MAX_POLL_RECORDS,
            broker_session_timeout=SESSION_TIMEOUT_S,
            broker_heartbeat_interval=HEARTBEAT_INTERVAL_S,
            consumer_group_instance_id=worker_id,
            consumer_auto_offset_reset="earliest",
            datadir=datadir,
            key_serializer="raw",
            value_serializer="raw",
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
        )
        topic = self._app.topic(self._topic, key_type=bytes, value_type=bytes)
        self._app.agent(topic, name=SCORE_REQUESTS)(self._consume)
        self._app.on_partitions_assigned.connect(self._assigned)
        self._app.on_partitions_revoked.connect(self._revoked)

    async def start(self) -> None:
        """Join the group; the partitions come a moment later.

        A caller that is cancelled meanwhile leaves it starting: `stop` waits for that.
        """
        self._app.finalize()
        self._starting = asyncio.ensure_future(self._app.start())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Commit and leave, if it was started; the partitions go to the others at once.

        Faust hangs when it is stopped half-way through its start, and does not leave for good.
        """
        if self._starting is None:
            return
        await asyncio.wait([self._starting])
        await self._app.stop()
        try:
            await leave_group(self._kafka, self._group, self._worker_id)
        except BrokerUnavailable as error:
            log.warning("group_not_left", group=self._group, error=str(error))

    def partitions(self) -> frozenset[int]:
        """The partitions of `score-requests`, and so of all topics keyed by user, owned now."""
        return self._partitions

    def assignments(self) -> int:
        """How often partitions have been assigned: what was known of them before is old."""
        return self._assignments

    def next_offsets(self) -> dict[int, int]:
        """Partition -> offset after the last message handed over since the last assignment."""
        return dict(self._next_offsets)

    def failure(self) -> BaseException | None:
        """Why the agent has ended on its own; None while it runs."""
        return self._app.crash_reason

    async def _consume(self, stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            message = _message(event)
            # Faust takes an exception here as the end of the message, and says nothing.
            try:
                await self._on_request(message)
            except Exception:
                log.exception("request_dropped", partition=message.partition, offset=message.offset)
            self._next_offsets[message.partition] = message.offset + 1

    async def _assigned(self, *arguments: Any, **_: Any) -> None:
        _app, assigned = arguments
        self._assignments += 1
        self._next_offsets.clear()
        self._own({tp.partition for tp in assigned if tp.topic == self._topic})
        self._on_assigned(self._partitions)

    async def _revoked(self, *_arguments: Any, **_: Any) -> None:
        # Faust revokes everything before it assigns anew.
        self._own(set())
        self._on_assigned(None)

    def _own(self, partitions: set[int]) -> None:
        self._partitions = frozenset(partitions)
        log.info("request_partitions_owned", partitions=sorted(partitions))


def _credentials(security: Security) -> CredentialsT | None:
    """The same in Faust's words as other clients have in aiokafka's."""
    if security.authenticated:
        return faust.SASLCredentials(
            mechanism=security.mechanism,
            username=security.username,
            password=security.password,
            ssl_context=security.context(),
        )
    return faust.SSLCredentials(security.context()) if security.encrypted else None


def _message(event: EventT[bytes]) -> RequestMessage:
    message = event.message
    return RequestMessage(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        # As aiokafka has them; the mapping that Faust's types allow is for sending.
        cast(Sequence[tuple[str, bytes]], message.headers or ()),
    )

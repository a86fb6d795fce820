"""A client for producers and callers: records in, answers out, over Kafka alone.

Owns the versions that it stamps, and the waiting for answers. Promises that a write is acknowledged
by the broker when its method returns, that its partition is the one where every worker looks for
it, and that versions of one client only rise. Two clients that write the same ad must have clocks
that agree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

import structlog
from aiokafka.errors import KafkaError

from .codec import (
    VERSION_HEADER,
    decode_response,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    encode_request,
)
from .errors import Rejected, StreamError
from .formats import JSON, Format, format_of, header_of
from .publish import Headers, Publisher, PublishFailed
from .reader import Offsets, TopicReader
from .records import ERASE, Ad, Delivery, Rule, ScoreRequest, ScoreResponse, UserEvent
from .settings import Kafka
from .topics import ADS, ADS_CONTROL, SCORE_REQUESTS, SCORE_RESPONSES, USER_EVENTS

log = structlog.get_logger(__name__)

# Errors that a worker gives now and may not give a moment later.
_PASSING: Final = frozenset({"stale", "not_ready", "overloaded", "deadline"})
# Between two attempts: long enough not to fill the topic, short enough to be no delay.
_RETRY_S: Final = 0.05
_POLL_MS: Final = 100

Features = Mapping[str, Iterable[str] | Mapping[str, float]]


class NoAnswer(StreamError):
    """No worker answered in time."""

    retriable = True


class NotApplied(StreamError):
    """No worker's state included the records in time; the message has the last answer."""

    retriable = True


@dataclass(frozen=True)
class Written:
    """Where a record is, and what a request must ask for to be answered with it."""

    topic: str
    """Without the prefix."""
    partition: int
    offset: int
    version: int | None
    """The version that was stamped; None on records that have none."""

    @property
    def min_offsets(self) -> Offsets:
        """As `ScoreRequest.min_offsets` wants it."""
        return {self.topic: {self.partition: self.offset + 1}}


class Client:
    """Writes records and asks for scores; use it as `async with`.

    Args:
        kafka: the cluster.
        form: the format of what it writes; answers come in the same.
    """

    def __init__(self, kafka: Kafka, form: Format = JSON) -> None:
        self._kafka = kafka
        self._form = form
        self._stack = AsyncExitStack()
        self._publisher = Publisher(kafka)
        self._version = 0
        self._asked: dict[str, tuple[bytes, asyncio.Future[ScoreResponse]]] = {}
        self._starting = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        await self._stack.enter_async_context(self._publisher)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self._stack.aclose()

    async def upsert(
        self,
        ad_id: int,
        *,
        advertiser: str = "",
        campaign: str = "",
        features: Features | None = None,
        targeting: Mapping[str, Rule] | None = None,
    ) -> Written:
        """Create an ad or replace the whole of it.

        Args:
            ad_id: 0 to 2^63 - 1.
            advertiser: whose it is.
            campaign: what it belongs to.
            features: by field, values or a weight between 0 and 1 for each value.
            targeting: by field, conditions on the user's profile or the request's context.

        Raises:
            PublishFailed: Kafka did not take it.
        """
        written = {
            field: dict(values) if isinstance(values, Mapping) else tuple(values)
            for field, values in (features or {}).items()
        }
        version = self._next_version()
        ad = Ad(version, advertiser, campaign, written, dict(targeting or {}))
        return await self._write(ADS, ad_id, encode_ad(ad, self._form), version)

    async def upsert_and_wait(
        self,
        ad_id: int,
        *,
        advertiser: str = "",
        campaign: str = "",
        features: Features | None = None,
        targeting: Mapping[str, Rule] | None = None,
        timeout_s: float = 10.0,
        user_id: int = 0,
    ) -> Written:
        """As `upsert`, and wait as `wait` does: a request that comes later finds the ad."""
        written = await self.upsert(
            ad_id,
            advertiser=advertiser,
            campaign=campaign,
            features=features,
            targeting=targeting,
        )
        await self.wait(written.min_offsets, timeout_s=timeout_s, user_id=user_id)
        return written

    async def delete(self, ad_id: int) -> Written:
        """Delete an ad.

        Raises:
            PublishFailed: Kafka did not take it.
        """
        version = self._next_version()
        return await self._write(ADS, ad_id, None, version)

    async def deliver(
        self,
        ad_id: int,
        *,
        status: Literal["active", "paused"] = "active",
        budget_left: float | None = None,
        pacing: float = 1.0,
        bid: float = 1.0,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> Written:
        """Set the whole delivery state of an ad.

        Raises:
            PublishFailed: Kafka did not take it.
        """
        version = self._next_version()
        state = Delivery(version, status, budget_left, pacing, bid, start_ms, end_ms)
        return await self._write(ADS_CONTROL, ad_id, encode_delivery(state, self._form), version)

    async def record(self, user_id: int, event: UserEvent) -> Written:
        """Add an event to a user's history; the same event id twice is one event.

        Raises:
            PublishFailed: Kafka did not take it.
        """
        return await self._write(USER_EVENTS, user_id, encode_event(event, self._form), None)

    async def erase(self, user_id: int) -> Written:
        """Erase a user: none of the events so far counts again, whatever is replayed.

        Raises:
            PublishFailed: Kafka did not take it.
        """
        event = UserEvent(f"erase-{uuid4().hex}", None, ERASE, round(time.time() * 1e3))
        return await self.record(user_id, event)

    async def score(self, request: ScoreRequest, *, timeout_s: float = 10.0) -> ScoreResponse:
        """Ask the worker that owns the user; its answer may be an error.

        Raises:
            NoAnswer: none came in time.
            PublishFailed: Kafka did not take the request.
        """
        await self._listen()
        key = encode_id(request.user_id)
        answer: asyncio.Future[ScoreResponse] = asyncio.get_running_loop().create_future()
        self._asked[request.request_id] = key, answer
        try:
            async with asyncio.timeout(timeout_s):
                value = encode_request(request, self._form)
                await self._write(SCORE_REQUESTS, request.user_id, value, None)
                return await answer
        except TimeoutError:
            raise NoAnswer(
                f"request {request.request_id}: no answer in {timeout_s:g} s; is a worker ready, "
                "and are its topics these?"
            ) from None
        finally:
            self._asked.pop(request.request_id, None)

    async def wait(
        self, min_offsets: Offsets, *, timeout_s: float = 10.0, user_id: int = 0
    ) -> None:
        """Wait until a worker answers that its applied offsets include these.

        It is the worker that owns the user `user_id`. To be sure of another's, give `min_offsets`
        to the request itself.

        Raises:
            NotApplied: no worker said so in time.
        """
        until_s = time.monotonic() + timeout_s
        last = "no worker has answered"
        while (left_s := until_s - time.monotonic()) > 0:
            # It asks for no ads, so that nothing is served and nothing is ranked.
            request = ScoreRequest(
                request_id=uuid4().hex,
                user_id=user_id,
                candidates=(),
                rank=False,
                min_offsets=min_offsets,
                deadline_ms=round(left_s * 1e3),
            )
            try:
                response = await self.score(request, timeout_s=left_s)
            except NoAnswer:
                break
            if response.error is None:
                return
            last = f"{response.error.code}: {response.error.message}"
            if response.error.code not in _PASSING:
                break
            await asyncio.sleep(_RETRY_S)
        raise NotApplied(f"{min_offsets} in {timeout_s:g} s: {last}")

    def _next_version(self) -> int:
        self._version = max(round(time.time() * 1e3), self._version + 1)
        return self._version

    async def _write(
        self, topic: str, key_id: int, value: bytes | None, version: int | None
    ) -> Written:
        headers: Headers = [header_of(self._form)]
        if value is None and version is not None:
            headers = [(VERSION_HEADER, encode_id(version))]
        name = self._kafka.topic(topic)
        try:
            placed = await (await self._publisher.send(name, encode_id(key_id), value, headers))
        except KafkaError as error:
            raise PublishFailed(f"{name}: {error!r}") from error
        return Written(topic, placed.partition, placed.offset, version)

    async def _listen(self) -> None:
        """Start to read the answers, once, from those that come after now."""
        async with self._starting:
            if self._listening is None:
                reader = TopicReader(
                    self._kafka, [self._kafka.topic(SCORE_RESPONSES)], from_end=True
                )
                await self._stack.enter_async_context(reader)
                self._listening = asyncio.create_task(self._read_answers(reader))
        if self._listening.done():
            self._listening.result()

    async def _read_answers(self, reader: TopicReader) -> None:
        while True:
            for record in await reader.read(_POLL_MS):
                # Others' answers come by here too, and decoding them all would be wasted.
                if any(record.key == key for key, _ in self._asked.values()):
                    self._hand_over(record.value, record.headers)

    def _hand_over(self, value: bytes | None, headers: Headers) -> None:
        try:
            response = decode_response(value or b"", format_of(headers, self._form))
        except Rejected as error:
            log.warning("answer_not_read", error=str(error))
            return
        _, answer = self._asked.get(response.request_id, (b"", None))
        if answer is not None and not answer.done():
            answer.set_result(response)

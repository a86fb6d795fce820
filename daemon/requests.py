"""Requests on their way to the scoring thread and answers on their way back.

Owns the queue in front of the scoring thread, deadlines, and the outcome of every request.
Promises an answer, if only an error, to every request that names itself, in the format that it came
in; that no request is scored on an older state than it asks for, and that none which waits for a
state is in the way of one that has its own; and never waits on the event loop for a score. HTTP and
the Faust agent are its two callers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from monitoring.activity import Activity
from monitoring.health import Readiness
from monitoring.metrics import (
    IMPRESSIONS_LOGGED,
    QUEUE_DEPTH,
    REQUEST_SECONDS,
    REQUESTS,
    UNKNOWN_KEYS,
)
from stream.codec import Message, decode_request, encode_id, encode_impression, encode_response
from stream.errors import Rejected, RequestRejected
from stream.formats import Format, format_of, header_of
from stream.publish import Publisher, PublishFailed
from stream.records import ErrorBody, Explanation, Impression, ScoreRequest, ScoreResponse
from stream.settings import Kafka
from stream.topics import IMPRESSIONS, SCORE_RESPONSES

from .applied import Applied
from .clock import wall_ms
from .rejections import Rejections
from .scoring import RequestRefused, Scored, Scorer
from .settings import ScoringSection

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# While the last answers of a worker that ends are on their way.
DRAIN_POLL_S = 0.01


class _Outdated(Exception):
    """The state has become older than the request allows."""


class Asked(NamedTuple):
    """What a record of `score-requests` asks."""

    request: ScoreRequest
    form: Format
    """In which it is answered."""
    written_ms: int
    """Its record time, from which its deadline counts; epoch ms."""
    unknown: bool = False
    """Whether it has keys that are ignored."""

    def left_s(self) -> float | None:
        """How long it is until its deadline; None without one."""
        deadline_ms = self.request.deadline_ms
        return None if deadline_ms is None else (self.written_ms + deadline_ms - wall_ms()) / 1e3


class RequestDesk:
    """Takes requests, has them scored one after the other, and counts how they ended."""

    def __init__(
        self,
        scorer: Scorer,
        readiness: Readiness,
        publisher: Publisher,
        rejections: Rejections,
        applied: Applied,
        kafka: Kafka,
        settings: ScoringSection,
        default: Format,
        impression_format: Format,
    ) -> None:
        self._scorer = scorer
        self._readiness = readiness
        self._publisher = publisher
        self._rejections = rejections
        self._applied = applied
        self._topic = kafka.topic(SCORE_RESPONSES)
        self._settings = settings
        self._default = default
        self._impressions_topic = kafka.topic(IMPRESSIONS)
        self._impression_format = impression_format
        self._free = asyncio.Semaphore(settings.max_queue)
        # As many again may wait for a state, and take no place in the queue until it is there.
        self._aside = asyncio.Semaphore(settings.max_queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self.activity = Activity()
        self._sending: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._open = 0
        self._closed = False
        QUEUE_DEPTH.labels("scoring").set_function(lambda: self._waiting)

    async def answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        """Score a request of a caller who waits; with the queue full it is refused.

        Args:
            request: what is asked.
            written_ms: its record time, from which its deadline counts; epoch ms.
        """
        if (refused := self._refused()) is not None:
            REQUESTS.labels(refused.code).inc()
            return failed(request, refused)
        await self._free.acquire()
        return await self._answer(request, written_ms)

    async def explain(
        self, request: ScoreRequest, ad_id: int, written_ms: int
    ) -> Explanation | ErrorBody:
        """Say what one ad is to a request; waits for a state and is refused as `answer`."""
        if (refused := self._refused()) is not None:
            return refused
        await self._free.acquire()
        return await self._outcome(self._scorer.explain, request, ad_id, written_ms)

    async def read(self, message: Message) -> Asked | None:
        """Read a record of `score-requests`; None when it is none, which is settled."""
        unknown: Counter[str] = Counter()
        try:
            form = format_of(message.headers, self._default)
        except Rejected as error:
            REQUESTS.labels(error.reason.value).inc()
            await self._rejections.settle([(message, error)])
            return None
        try:
            request = decode_request(message.key, message.value, unknown, form)
        except RequestRejected as error:
            await self._reject(message, error, form)
            return None
        for topic, keys in unknown.items():
            UNKNOWN_KEYS.labels(topic).inc(keys)
        return Asked(request, form, message.timestamp, bool(unknown))

    async def accept(self, asked: Asked) -> None:
        """Take what was read; waits for a place in the queue, not for the score."""
        await self._free.acquire()
        self._later(self._answer_record(asked))

    async def refuse(self, asked: Asked, error: ErrorBody) -> None:
        """Answer what was read with an error."""
        REQUESTS.labels(error.code).inc()
        response = failed(asked.request, error)
        await self._respond(flagged(response, asked.unknown), asked.form)

    def patience_for_user_s(self, request: ScoreRequest, written_ms: int) -> float:
        """How long a caller's request can wait for a user who is on the move."""
        patience_ms = self._settings.max_wait_ms
        if request.deadline_ms is not None:
            patience_ms = written_ms + request.deadline_ms - wall_ms()
        return max(patience_ms, 0) / 1e3

    async def between_scores(self, call: Callable[[], None]) -> None:
        """Run a call on the scoring thread, after what is there already; not when it has ended."""
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def drain(self) -> None:
        """Wait until all that is here is answered and logged, then end the scoring thread.

        What comes now is refused, and what waits for a state is told that it will not come.
        """
        self._closed = True
        await self._applied.close("the worker ends")
        while self._sending or self._open:
            await asyncio.sleep(DRAIN_POLL_S)
        self._thread.shutdown(wait=False)

    async def _answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        """Answer a request that has a place in the queue, and give the place back."""
        began_s = time.perf_counter()
        scored = await self._outcome(self._score, request, written_ms, written_ms)
        if isinstance(scored, ErrorBody):
            response = failed(request, scored)
        else:
            response = scored.response
            if scored.impression is not None:
                self._later(self._log(scored.impression))
        REQUESTS.labels(response.error.code if response.error else "ok").inc()
        REQUEST_SECONDS.labels("total").observe(time.perf_counter() - began_s)
        return response

    async def _outcome(
        self,
        call: Callable[[ScoreRequest, int], Result],
        request: ScoreRequest,
        argument: int,
        written_ms: int,
    ) -> Result | ErrorBody:
        """Run a call in its turn, or say why not, and give the request's place back."""
        self._open += 1
        try:
            return await self._in_turn(call, request, argument, written_ms)
        except RequestRefused as refused:
            return ErrorBody(refused.code, refused.message)
        except Exception:
            log.exception("request_failed", request_id=request.request_id)
            return ErrorBody("internal", "scoring failed; the worker's log has the reason")
        finally:
            self._open -= 1

    async def _in_turn(
        self,
        call: Callable[[ScoreRequest, int], Result],
        request: ScoreRequest,
        argument: int,
        written_ms: int,
    ) -> Result:
        try:
            if not self._readiness.serving:
                reasons = self._readiness.reasons().items()
                raise RequestRefused("not_ready", "; ".join(f"{k}: {v}" for k, v in reasons))
            if self._applied.has(request):
                with suppress(_Outdated):
                    return await self._on_thread(call, request, argument)
        finally:
            self._free.release()
        if self._aside.locked():
            full = self._overloaded()
            raise RequestRefused(full.code, full.message)
        async with self._aside:
            while True:
                await self._applied.satisfy(request, self._patience_s(request, written_ms))
                async with self._free:
                    with suppress(_Outdated):
                        return await self._on_thread(call, request, argument)

    def _refused(self) -> ErrorBody | None:
        """Why a caller who waits is not let in; None if there is room."""
        if self._closed:
            return ErrorBody("not_ready", "the worker ends; ask another")
        return self._overloaded() if self._free.locked() else None

    def _overloaded(self) -> ErrorBody:
        waiting = self._settings.max_queue
        return ErrorBody("overloaded", f"{waiting} requests are waiting; try again later")

    def _patience_s(self, request: ScoreRequest, written_ms: int) -> float:
        """How long the request can wait for the state that it asks for."""
        patience_ms = self._settings.max_wait_ms
        if request.deadline_ms is not None:
            patience_ms = min(patience_ms, written_ms + request.deadline_ms - wall_ms())
        return max(patience_ms, 0) / 1e3

    async def _on_thread(
        self, call: Callable[[ScoreRequest, int], Result], request: ScoreRequest, argument: int
    ) -> Result:
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._thread, self.activity.run, self._now, call, request, argument
            )
        finally:
            self._waiting -= 1

    def _now(
        self, call: Callable[[ScoreRequest, int], Result], request: ScoreRequest, argument: int
    ) -> Result:
        """On the scoring thread: what was fresh enough may have aged while it was queued."""
        if not self._applied.has(request):
            raise _Outdated
        return call(request, argument)

    def _score(self, request: ScoreRequest, written_ms: int) -> Scored:
        if request.deadline_ms is not None and wall_ms() > written_ms + request.deadline_ms:
            raise RequestRefused("deadline", f"{request.deadline_ms} ms had passed before scoring")
        return self._scorer.score(request)

    async def _answer_record(self, asked: Asked) -> None:
        response = await self._answer(asked.request, asked.written_ms)
        await self._respond(flagged(response, asked.unknown), asked.form)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what nobody waits for, but `drain`."""
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _log(self, impression: Impression) -> None:
        """Send what was served; an answer never waits for it nor fails with it."""
        form = self._impression_format
        key, value = encode_id(impression.user_id), encode_impression(impression, form)
        try:
            await self._publisher.send(self._impressions_topic, key, value, [header_of(form)])
        except PublishFailed as error:
            IMPRESSIONS_LOGGED.labels("failed").inc()
            log.error(
                "impression_not_published", request_id=impression.request_id, error=str(error)
            )
        else:
            IMPRESSIONS_LOGGED.labels("sent").inc()

    async def _reject(self, message: Message, error: RequestRejected, form: Format) -> None:
        """Answer who can be answered; nobody else would know of the record, so it is settled."""
        REQUESTS.labels(error.code).inc()
        if error.request_id is not None and error.user_id is not None:
            body = ErrorBody(code=error.code, message=error.message)
            response = ScoreResponse(request_id=error.request_id, user_id=error.user_id, error=body)
            await self._respond(response, form)
        else:
            await self._rejections.settle([(message, error)])

    async def _respond(self, response: ScoreResponse, form: Format) -> None:
        """Send an answer; a lost one is the deadline's matter, but it is said."""
        key, value = encode_id(response.user_id), encode_response(response, form)
        try:
            await self._publisher.send(self._topic, key, value, [header_of(form)])
        except PublishFailed as error:
            log.error("response_not_published", request_id=response.request_id, error=str(error))


def flagged(response: ScoreResponse, unknown: bool) -> ScoreResponse:
    """An answer that says whether its request has ignored keys: a typo of one, perhaps."""
    if not unknown:
        return response
    return msgspec.structs.replace(response, flags=(*response.flags, "unknown_keys"))


def failed(request: ScoreRequest, error: ErrorBody) -> ScoreResponse:
    """An answer that says why there is none."""
    return ScoreResponse(request_id=request.request_id, user_id=request.user_id, error=error)

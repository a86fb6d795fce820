"""Requests on their way to the scoring thread and answers on their way back.

Owns the queue in front of the scoring thread, deadlines, and the outcome of every request.
Promises an answer, if only an error, to every request that names itself, and never waits on the
event loop for a score. HTTP and the Faust agent are its two callers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from monitoring.health import Readiness
from monitoring.metrics import (
    QUEUE_DEPTH,
    RECORDS_REJECTED,
    REQUEST_SECONDS,
    REQUESTS,
    UNKNOWN_KEYS,
)
from stream.codec import Message, decode_request, encode_id, encode_response
from stream.deadletters import dead_letter
from stream.errors import RequestRejected
from stream.publish import Publisher, PublishFailed
from stream.records import ErrorBody, Explanation, ScoreRequest, ScoreResponse
from stream.settings import Kafka
from stream.topics import SCORE_REQUESTS, SCORE_RESPONSES

from .clock import wall_ms
from .scoring import RequestRefused, Scorer

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# Between two tries to keep a record that can neither be answered nor dead-lettered.
RETRY_S = 1.0


class RequestDesk:
    """Takes requests, has them scored one after the other, and counts how they ended."""

    def __init__(
        self,
        scorer: Scorer,
        readiness: Readiness,
        publisher: Publisher,
        kafka: Kafka,
        max_queue: int,
    ) -> None:
        self._scorer = scorer
        self._readiness = readiness
        self._publisher = publisher
        self._topic = kafka.topic(SCORE_RESPONSES)
        self._max_queue = max_queue
        self._free = asyncio.Semaphore(max_queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._answering: set[asyncio.Task[None]] = set()
        self._waiting = 0
        QUEUE_DEPTH.labels("scoring").set_function(lambda: self._waiting)

    async def answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        """Score a request of a caller who waits; with the queue full it is refused.

        Args:
            request: what is asked.
            written_ms: its record time, from which its deadline counts; epoch ms.
        """
        if self._free.locked():
            REQUESTS.labels("overloaded").inc()
            return _failed(request, self._overloaded())
        await self._free.acquire()
        return await self._answer(request, written_ms)

    async def explain(self, request: ScoreRequest, ad_id: int) -> Explanation | ErrorBody:
        """Say what one ad is to a request; waits and is refused as `answer`."""
        if self._free.locked():
            return self._overloaded()
        await self._free.acquire()
        return await self._on_thread(self._scorer.explain, request, ad_id)

    async def accept(self, message: Message) -> None:
        """Take a record of `score-requests`; waits for a place in the queue, not for the score."""
        unknown: Counter[str] = Counter()
        try:
            request = decode_request(message.key, message.value, unknown)
        except RequestRejected as error:
            await self._reject(message, error)
            return
        for topic, keys in unknown.items():
            UNKNOWN_KEYS.labels(topic).inc(keys)
        await self._free.acquire()
        task = asyncio.create_task(self._answer_record(request, message.timestamp))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def drain(self) -> None:
        """Wait until every accepted request is answered, then end the scoring thread."""
        while self._answering:
            await asyncio.wait(self._answering)
        await asyncio.to_thread(self._thread.shutdown)

    async def _answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        """Score a request that has a place in the queue, and give the place back."""
        began_s = time.perf_counter()
        scored = await self._on_thread(self._score, request, written_ms)
        response = _failed(request, scored) if isinstance(scored, ErrorBody) else scored
        REQUESTS.labels(response.error.code if response.error else "ok").inc()
        REQUEST_SECONDS.labels("total").observe(time.perf_counter() - began_s)
        return response

    async def _on_thread(
        self, call: Callable[[ScoreRequest, int], Result], request: ScoreRequest, argument: int
    ) -> Result | ErrorBody:
        """Run a call in its turn, or say why not, and give the request's place back."""
        self._waiting += 1
        try:
            if not self._readiness.ready:
                reasons = self._readiness.reasons().items()
                return ErrorBody("not_ready", "; ".join(f"{k}: {v}" for k, v in reasons))
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, call, request, argument)
        except RequestRefused as refused:
            return ErrorBody(refused.code, refused.message)
        except Exception:
            log.exception("request_failed", request_id=request.request_id)
            return ErrorBody("internal", "scoring failed; the worker's log has the reason")
        finally:
            self._waiting -= 1
            self._free.release()

    def _overloaded(self) -> ErrorBody:
        return ErrorBody("overloaded", f"{self._max_queue} requests are waiting; try again later")

    def _score(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        if request.deadline_ms is not None and wall_ms() > written_ms + request.deadline_ms:
            raise RequestRefused("deadline", f"{request.deadline_ms} ms had passed before scoring")
        return self._scorer.score(request)

    async def _answer_record(self, request: ScoreRequest, written_ms: int) -> None:
        await self._respond(await self._answer(request, written_ms))

    async def _reject(self, message: Message, error: RequestRejected) -> None:
        """Answer who can be answered; nobody else would know of the record, so it is kept."""
        REQUESTS.labels(error.code).inc()
        if error.request_id is not None and error.user_id is not None:
            body = ErrorBody(code=error.code, message=error.message)
            await self._respond(
                ScoreResponse(request_id=error.request_id, user_id=error.user_id, error=body)
            )
            return
        letter = dead_letter(message, error.reason, error.detail)
        while True:
            try:
                await self._publisher.send_all([letter])
                break
            except PublishFailed as failure:
                log.error("dead_letter_not_published", topic=letter.topic, error=str(failure))
                await asyncio.sleep(RETRY_S)
        RECORDS_REJECTED.labels(SCORE_REQUESTS, error.reason.value).inc()

    async def _respond(self, response: ScoreResponse) -> None:
        """Send an answer; a lost one is the deadline's matter, but it is said."""
        key = encode_id(response.user_id)
        try:
            await self._publisher.send(self._topic, key, encode_response(response))
        except PublishFailed as error:
            log.error("response_not_published", request_id=response.request_id, error=str(error))


def _failed(request: ScoreRequest, error: ErrorBody) -> ScoreResponse:
    """An answer that says why there is none."""
    return ScoreResponse(request_id=request.request_id, user_id=request.user_id, error=error)

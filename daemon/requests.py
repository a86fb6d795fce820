"""Requests on their way to the scoring thread and answers on their way back.

Owns the queue in front of the scoring thread, deadlines, and the outcome of every request.
Promises an answer, if only an error, to every request that names itself, and never waits on the
event loop for a score. HTTP and the Faust agent are its two callers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import structlog

from monitoring.health import Readiness
from monitoring.metrics import QUEUE_DEPTH, REQUEST_SECONDS, REQUESTS, UNKNOWN_KEYS
from stream.codec import Message, decode_request, encode_id, encode_response
from stream.deadletters import dead_letter
from stream.errors import RequestRejected
from stream.publish import Publisher
from stream.records import ErrorBody, ScoreRequest, ScoreResponse
from stream.settings import Kafka
from stream.topics import SCORE_RESPONSES

from .clock import wall_ms
from .scoring import RequestRefused, Scorer

log = structlog.get_logger(__name__)


def failed(request_id: str, user_id: int, code: str, message: str) -> ScoreResponse:
    """An answer that says why there is none."""
    return ScoreResponse(
        request_id=request_id, user_id=user_id, error=ErrorBody(code=code, message=message)
    )


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
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._answering: set[asyncio.Task[None]] = set()
        QUEUE_DEPTH.labels("scoring").set_function(lambda: self._waiting)

    async def answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        """Score a request.

        Args:
            request: what is asked.
            written_ms: its record time, from which its deadline counts; epoch ms.
        """
        response = await self._answer(request, written_ms)
        REQUESTS.labels(response.error.code if response.error else "ok").inc()
        REQUEST_SECONDS.labels("total").observe(max(wall_ms() - written_ms, 0) / 1e3)
        return response

    async def accept(self, message: Message) -> None:
        """Take a record of `score-requests`; returns before it is scored."""
        unknown: Counter[str] = Counter()
        try:
            request = decode_request(message.key, message.value, unknown)
        except RequestRejected as error:
            await self._reject(message, error)
            return
        for topic, keys in unknown.items():
            UNKNOWN_KEYS.labels(topic).inc(keys)
        task = asyncio.create_task(self._answer_record(request, message.timestamp))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def drain(self) -> None:
        """Wait until every accepted request is answered, then end the scoring thread."""
        while self._answering:
            await asyncio.wait(self._answering)
        self._thread.shutdown(wait=True)

    async def _answer(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        def error(code: str, message: str) -> ScoreResponse:
            return failed(request.request_id, request.user_id, code, message)

        if not self._readiness.ready:
            return error("not_ready", "; ".join(self._readiness.reasons().values()))
        if self._waiting >= self._max_queue:
            return error("overloaded", f"{self._waiting} requests are waiting; try again later")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._score, request, written_ms)
        except RequestRefused as refused:
            return error(refused.code, refused.message)
        except Exception:
            log.exception("request_failed", request_id=request.request_id)
            return error("internal", "scoring failed; the worker's log has the reason")
        finally:
            self._waiting -= 1

    def _score(self, request: ScoreRequest, written_ms: int) -> ScoreResponse:
        if request.deadline_ms is not None and wall_ms() > written_ms + request.deadline_ms:
            raise RequestRefused("deadline", f"{request.deadline_ms} ms had passed before scoring")
        return self._scorer.score(request)

    async def _answer_record(self, request: ScoreRequest, written_ms: int) -> None:
        await self._publish(await self.answer(request, written_ms))

    async def _reject(self, message: Message, error: RequestRejected) -> None:
        REQUESTS.labels(error.code).inc()
        if error.request_id is not None and error.user_id is not None:
            await self._publish(failed(error.request_id, error.user_id, error.code, error.message))
        else:
            await self._publisher.send_all([dead_letter(message, error.reason, error.detail)])

    async def _publish(self, response: ScoreResponse) -> None:
        key = encode_id(response.user_id)
        await self._publisher.send(self._topic, key, encode_response(response), [])

"""HTTP requests about users that another worker owns.

Owns the directory of workers as far as `workers` has been read, what this worker says of itself
there, and the way of a request to the owner and of its answer back. Promises that a request is
forwarded once at most, that it waits for nobody beyond its deadline and for no worker that is the
owner no more, and that who cannot be served here is told where to go.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Final, NoReturn

import aiohttp
import structlog
from aiohttp import web

from monitoring.metrics import REQUESTS_FORWARDED
from stream.codec import encode_id, parse_id
from stream.directory import Directory, Listing, decode_listing, encode_listing
from stream.errors import Rejected
from stream.placement import partition_of
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import ErrorBody
from stream.settings import Kafka
from stream.topics import USER_PARTITIONS, WORKERS

from .ownership import Ownership

log = structlog.get_logger(__name__)

# On a request that another worker has passed on: it is not passed on again, and its deadline
# counts from when it came to the first.
FORWARDED_HEADER: Final = "headwater-forwarded"
WAITED_HEADER: Final = "headwater-waited-ms"
# Longer than any wait for an owner; who asks for more gets it by a deadline.
ANSWER_TIMEOUT_S = 60.0
# An answer that says that the deadline has passed comes after it.
ANSWER_SLACK_S = 1.0
# Between two tries to reach an owner.
RETRY_S = 0.5
# Between two looks at who the owner is.
_LOOK_S = 0.05
_POLL_MS = 200


class _NotTheOwner(Exception):
    """The worker that was asked has the users no more."""


def waited_ms(http: web.Request) -> int:
    """How long a request has waited on the worker that has passed it on."""
    try:
        return parse_id(http.headers.get(WAITED_HEADER, ""))
    except ValueError:
        return 0


class Forwarding:
    """Where users are, and asking there.

    Args:
        kafka: the cluster.
        publisher: writes what this worker says of itself.
        worker_id: this worker's name.
    """

    def __init__(self, kafka: Kafka, publisher: Publisher, worker_id: str) -> None:
        self._topic = kafka.topic(WORKERS)
        self._reader = TopicReader(kafka, [self._topic])
        self._publisher = publisher
        self._worker_id = worker_id
        self._directory = Directory()
        self._session: aiohttp.ClientSession | None = None
        self._url = ""

    async def start(self, url: str) -> None:
        """Begin to read the directory; this worker's own address is `url`."""
        self._url = url
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S), auto_decompress=False
        )
        await self._reader.start()

    async def withdraw(self) -> None:
        """Take this worker's listing back."""
        await self._publisher.send(self._topic, self._worker_id.encode(), None)

    async def stop(self) -> None:
        """Disconnect."""
        await self._reader.stop()
        if self._session is not None:
            await self._session.close()

    async def announce(self, partitions: frozenset[int]) -> None:
        """Say that this worker owns these partitions."""
        listing = encode_listing(Listing(self._url, tuple(sorted(partitions))))
        await self._publisher.send(self._topic, self._worker_id.encode(), listing)

    async def run(self) -> NoReturn:
        """Keep the directory current."""
        while True:
            for record in await self._reader.read(_POLL_MS):
                try:
                    listing = None if record.value is None else decode_listing(record.value)
                except Rejected as error:
                    log.warning("listing_not_read", key=record.key, error=str(error))
                    continue
                self._directory.note((record.key or b"").decode(errors="replace"), listing)

    def workers(self) -> dict[str, dict[str, object]]:
        """Worker id -> its address and its partitions."""
        return {
            worker_id: {"url": listing.url, "partitions": list(listing.partitions)}
            for worker_id, listing in self._directory.workers().items()
        }

    def not_owner(self, partition: int) -> ErrorBody:
        """Why users of the partition are not served here, and where they are."""
        url = self._directory.url_of(partition)
        where = "nobody has taken it yet" if url in (None, self._url) else f"ask {url}"
        return ErrorBody("not_owner", f"partition {partition} is not this worker's; {where}")

    async def elsewhere(
        self,
        http: web.Request,
        user_id: int,
        ownership: Ownership,
        patience_s: float,
        answer_s: float,
    ) -> web.Response | ErrorBody | None:
        """The owner's answer to `http`, or why there is none; None if the user is here.

        A user on the move is waited for.

        Args:
            http: the request, not yet answered; its body may have been read.
            user_id: whom it is about.
            ownership: of this worker.
            patience_s: the longest wait for an owner.
            answer_s: the longest wait for its answer.
        """
        partition = partition_of(encode_id(user_id), USER_PARTITIONS)
        began_s = time.monotonic()
        until_s = began_s + patience_s
        while not ownership.here(partition):
            url = self._directory.url_of(partition)
            if not ownership.coming(partition) and url not in (None, self._url):
                if FORWARDED_HEADER in http.headers:
                    break
                waited_s = time.monotonic() - began_s
                try:
                    async with asyncio.timeout(answer_s - waited_s):
                        return await self._ask_the_owner(str(url), http, partition, waited_s)
                except (aiohttp.ClientError, TimeoutError, _NotTheOwner) as error:
                    # It may have died a moment ago: then somebody takes its users over.
                    REQUESTS_FORWARDED.labels("failed").inc()
                    log.info("owner_does_not_answer", url=url, error=repr(error))
                    await asyncio.sleep(min(RETRY_S, max(until_s - time.monotonic(), 0.0)))
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(_LOOK_S)
        else:
            return None
        return self.not_owner(partition)

    async def _ask_the_owner(
        self, url: str, http: web.Request, partition: int, waited_s: float
    ) -> web.Response:
        """The answer of the worker at `url`, for as long as it is the owner."""
        asking = asyncio.create_task(self._ask(url, http, waited_s))
        try:
            while not asking.done():
                if self._directory.url_of(partition) not in (None, url):
                    raise _NotTheOwner(f"partition {partition} has moved")
                await asyncio.wait({asking}, timeout=_LOOK_S)
            answer = asking.result()
        finally:
            asking.cancel()
        if answer.status == HTTPStatus.MISDIRECTED_REQUEST:
            raise _NotTheOwner(f"it says so of partition {partition}")
        REQUESTS_FORWARDED.labels("answered").inc()
        return answer

    async def _ask(self, url: str, http: web.Request, waited_s: float) -> web.Response:
        assert self._session is not None, "start it first"
        headers = {FORWARDED_HEADER: self._worker_id, WAITED_HEADER: f"{waited_s * 1e3:.0f}"}
        if "Content-Type" in http.headers:
            headers["Content-Type"] = http.headers["Content-Type"]
        body = await http.read()
        async with self._session.request(
            http.method, url + http.path_qs, data=body, headers=headers
        ) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type=answer.content_type
            )

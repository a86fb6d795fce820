"""What an operator would try by hand, as an outside client would do it.

Owns the demo's own ads and the requests that it asks with. Every scene asks the worker until it
sees what was promised, and raises if it never does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from stream.codec import encode_delivery, encode_id
from stream.publish import Outgoing, Publisher
from stream.records import Delivery
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL

from ..client import WorkerClient
from ..clock import wall_ms
from ..failure import Failed
from ..quality import Question

DEADLINE_S = 30.0
# Ads that the demo makes up get ids above those of the data.
OWN_IDS = 10**15
# Equal retrieval scores are equal to the bit; the ranker's may differ in the last digits.
RANK_TOLERANCE = 1e-5

Answer = Mapping[str, Any]


class Hand:
    """One client with a producer, and the ads that it made."""

    def __init__(self, client: WorkerClient, publisher: Publisher, kafka: Kafka) -> None:
        self.client = client
        self._publisher = publisher
        self._ads, self._control = kafka.topic(ADS), kafka.topic(ADS_CONTROL)

    def request(self, question: Question, k: int = 10, **more: Any) -> dict[str, Any]:
        """A score request for a question's user."""
        return {
            "request_id": f"{question.user_id}-{question.now_ms}",
            "user_id": str(question.user_id),
            "user": question.profile,
            "context": question.context,
            "k": k,
            **more,
        }

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        """Score; a refusal is a failure of the demo."""
        answer = await self.client.post("/v1/score", dict(request))
        if answer.get("error"):
            raise Failed(f"request {request['request_id']}: {answer['error']['message']}")
        return answer

    async def publish_paced(self, ads: Sequence[bytes], count: int, per_s: float) -> list[int]:
        """Create `count` ads at an even pace from the given records; returns their ids."""
        began = time.monotonic()
        ids = []
        for at, ad in enumerate(islice(cycle(ads), count)):
            await asyncio.sleep(max(began + at / per_s - time.monotonic(), 0))
            await self._publisher.send(self._ads, encode_id(OWN_IDS + at), ad)
            ids.append(OWN_IDS + at)
        await self._publisher.flush()
        return ids

    async def create(self, ad_id: int, ad: bytes, request: Mapping[str, Any]) -> float:
        """Create an ad and ask until it is in the answer; milliseconds from send to answer."""
        began = time.perf_counter()
        await self._send((self._ads, encode_id(ad_id), ad, ()))
        await self._until(request, ad_id, present=True)
        return (time.perf_counter() - began) * 1e3

    async def pause(self, ad_id: int, request: Mapping[str, Any]) -> tuple[float, list[str]]:
        """Pause an ad and ask until it is gone; the milliseconds, and the worker's reasons."""
        began = time.perf_counter()
        state = encode_delivery(Delivery(wall_ms(), status="paused"))
        await self._send((self._control, encode_id(ad_id), state, ()))
        await self._until(request, ad_id, present=False)
        elapsed_ms = (time.perf_counter() - began) * 1e3
        return elapsed_ms, list((await self.client.get(f"/v1/ads/{ad_id}"))["reasons"])

    async def remove(self, ad_ids: Sequence[int]) -> None:
        """Delete ads and their delivery states."""
        await self._publisher.send_all(
            [
                (topic, encode_id(ad_id), None, ())
                for ad_id in ad_ids
                for topic in (self._ads, self._control)
            ]
        )

    async def _send(self, record: Outgoing) -> None:
        await self._publisher.send_all([record])

    async def _until(self, request: Mapping[str, Any], ad_id: int, *, present: bool) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            answer = await self.ask(request)
            if any(ad["ad_id"] == str(ad_id) for ad in answer["ads"]) == present:
                return
        missing = "not in" if present else "still in"
        raise Failed(f"ad {ad_id} is {missing} the answers after {DEADLINE_S} s")


def same(first: Answer, second: Answer) -> bool:
    """Whether two answers to one request are the same.

    That is: equal ads and retrieval scores, values within RANK_TOLERANCE, and another order only
    among ads whose values differ by less.
    """
    if first["models"] != second["models"] or len(first["ads"]) != len(second["ads"]):
        return False
    again = {ad["ad_id"]: ad for ad in second["ads"]}
    for ad, neighbour in zip(first["ads"], second["ads"], strict=True):
        match = again.get(ad["ad_id"])
        if match is None or match["score"] != ad["score"]:
            return False
        for other in (match, neighbour):
            if abs(other["value"] - ad["value"]) > RANK_TOLERANCE:
                return False
    return True

"""Which cluster answers, and which topics these are: what offsets mean something on.

Owns asking for the cluster's id and for the id and the number of partitions of topics. Two topics
of one name, one deleted before the other was created, have different ids. Promises an answer or an
error in time, and a new connection after each error; it creates no topic. What follows from another
answer than the last is the caller's part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from .errors import BrokerUnavailable
from .metadata import MetadataRequest
from .settings import Kafka


@dataclass(frozen=True)
class Topic:
    """A topic as it is on the cluster."""

    id: str
    """As Kafka's own tools show it."""
    partitions: int


@dataclass(frozen=True)
class Cluster:
    """A cluster and those of the topics asked for that are on it."""

    id: str
    topics: Mapping[str, Topic]
    """By name without the prefix."""

    def source(self, kafka: Kafka, name: str) -> str:
        """A topic that is there, and on which cluster: what its offsets are of."""
        return f"{self.id} {kafka.topic(name)} {self.topics[name].id}"


class ClusterClient:
    """Asks again and again over one connection; use it as `async with`.

    Args:
        kafka: the cluster.
        names: the topics to ask for, without the prefix.
    """

    def __init__(self, kafka: Kafka, names: Iterable[str]) -> None:
        self._kafka = kafka
        self._request = MetadataRequest([kafka.topic(name) for name in names])
        self._client: AIOKafkaClient | None = None

    async def __aenter__(self) -> ClusterClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def look(self, timeout_s: float) -> Cluster:
        """What the cluster says now.

        Raises:
            BrokerUnavailable: no broker answers in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                client = await self._connected()
                answer = await client.send(client.get_random_node(), self._request)
        except (KafkaError, OSError) as error:
            await self._close()
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error
        except TimeoutError as error:
            await self._close()
            raise BrokerUnavailable(
                f"{self._kafka.bootstrap}: no answer in {timeout_s:g} s"
            ) from error
        return self._read(answer.to_object())

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = AIOKafkaClient(**self._kafka.client_options())
            await self._client.bootstrap()
        return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _read(self, answer: Mapping[str, Any]) -> Cluster:
        return Cluster(
            answer["cluster_id"],
            {
                self._kafka.name(topic["name"]): Topic(topic["topic_id"], len(topic["partitions"]))
                for topic in answer["topics"]
                # A topic that is not there is in the answer with an error.
                if topic["partitions"]
            },
        )


async def look(kafka: Kafka, names: Iterable[str], timeout_s: float = 30.0) -> Cluster:
    """Ask once.

    Raises:
        BrokerUnavailable: no broker answers in time.
    """
    async with ClusterClient(kafka, names) as client:
        return await client.look(timeout_s)

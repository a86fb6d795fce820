"""Where partitions end, asked again and again without reading them.

Owns a consumer that has nothing assigned. Promises an answer or an error in time, and a new
connection after each error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from .errors import BrokerUnavailable
from .settings import Kafka


class EndsReader:
    """Use it as `async with`."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> EndsReader:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def ends(
        self, partitions: Mapping[str, Iterable[int]], timeout_s: float
    ) -> dict[str, dict[int, int]]:
        """The offset after the newest record: topic -> partition -> offset.

        Args:
            partitions: by topic, whose name is without the prefix.
            timeout_s: for all of them.

        Raises:
            BrokerUnavailable: no answer in time.
        """
        asked = [
            TopicPartition(self._kafka.topic(name), partition)
            for name, numbers in partitions.items()
            for partition in numbers
        ]
        try:
            async with asyncio.timeout(timeout_s):
                consumer = await self._connected()
                offsets = await consumer.end_offsets(asked)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._close()
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error
        found: dict[str, dict[int, int]] = {name: {} for name in partitions}
        for (topic, partition), offset in offsets.items():
            found[self._kafka.name(topic)][partition] = offset
        return found

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **self._kafka.client_options(), group_id=None, enable_auto_commit=False
            )
            await self._consumer.start()
        return self._consumer

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

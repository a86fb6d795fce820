"""Kafka records as aiokafka hands them out, without a Kafka."""

from collections.abc import Sequence
from typing import Protocol

import pytest
from aiokafka.structs import ConsumerRecord


class MakeRecord(Protocol):
    """Builds a record; what a test does not name is valid and unremarkable."""

    def __call__(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        topic: str = "ads",
    ) -> ConsumerRecord: ...


@pytest.fixture(scope="session")
def record() -> MakeRecord:
    def make(
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        topic: str = "ads",
    ) -> ConsumerRecord:
        return ConsumerRecord(
            topic=topic,
            partition=3,
            offset=41,
            timestamp=1_700_000_000_000,
            timestamp_type=0,
            key=key,
            value=value,
            checksum=None,
            serialized_key_size=-1 if key is None else len(key),
            serialized_value_size=-1 if value is None else len(value),
            headers=headers,
        )

    return make

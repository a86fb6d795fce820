"""A cluster that answers with errors when told to: librdkafka's, from the confluent-kafka wheel.

It cannot stand for Kafka otherwise (no transactions, no compaction, little
memory), and is used for what a real broker cannot be asked for: an error code
of choice in the next answers to a kind of request.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import confluent_kafka

_PRODUCER = 0


class Api(IntEnum):
    """Kinds of requests, by Kafka's numbers."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "rd_kafka_conf_new": (pointer, ()),
        "rd_kafka_new": (pointer, (number, pointer, text, ctypes.c_size_t)),
        "rd_kafka_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_new": (pointer, (pointer, number)),
        "rd_kafka_mock_cluster_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_bootstraps": (text, (pointer,)),
        "rd_kafka_mock_topic_create": (number, (pointer, text, number, number)),
        "rd_kafka_mock_push_request_errors_array": (
            number,
            (pointer, ctypes.c_int16, ctypes.c_size_t, pointer),
        ),
        "rd_kafka_mock_broker_set_down": (number, (pointer, ctypes.c_int32)),
        "rd_kafka_mock_broker_set_up": (number, (pointer, ctypes.c_int32)),
        "rd_kafka_mock_partition_set_leader": (
            number,
            (pointer, text, ctypes.c_int32, ctypes.c_int32),
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """Use it as `with`; brokers are numbered from 1."""

    def __init__(self, brokers: int = 3) -> None:
        self._library = _library()
        self._brokers = brokers

    def __enter__(self) -> MockCluster:
        library = self._library
        message = ctypes.create_string_buffer(512)
        self._client = library.rd_kafka_new(_PRODUCER, library.rd_kafka_conf_new(), message, 512)
        assert self._client, message.value
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, self._brokers)
        self.bootstrap: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic on all brokers."""
        self._did(
            self._library.rd_kafka_mock_topic_create(
                self._cluster, topic.encode(), partitions, self._brokers
            )
        )

    def fail(self, api: Api, codes: Sequence[int]) -> None:
        """Answer the next requests of a kind with these error codes, one after the other."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._did(
            self._library.rd_kafka_mock_push_request_errors_array(
                self._cluster, api, len(codes), array
            )
        )

    def set_broker(self, broker: int, *, up: bool) -> None:
        """Take a broker away, or bring it back."""
        name = "up" if up else "down"
        self._did(getattr(self._library, f"rd_kafka_mock_broker_set_{name}")(self._cluster, broker))

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        self._did(
            self._library.rd_kafka_mock_partition_set_leader(
                self._cluster, topic.encode(), partition, broker
            )
        )

    def _did(self, code: int) -> None:
        assert code == 0, f"librdkafka: error {code}"

"""What becomes of the records of one topic that cannot be read.

Owns the policy: `dlq` keeps them on the dead-letter topic, `drop` only counts and logs them,
`block` leaves them where they are and everything behind them too. Promises that with `dlq` no
record is passed before its dead letter is acknowledged, however long that takes, and that each is
counted once. Standing still is `ingest`'s part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import structlog

from monitoring.metrics import RECORDS_REJECTED
from stream.codec import Message
from stream.deadletters import dead_letter
from stream.errors import Rejected
from stream.publish import Publisher, PublishFailed

log = structlog.get_logger(__name__)

Policy = Literal["dlq", "drop", "block"]

# Between two tries to send dead letters.
RETRY_S = 1.0
# Enough to see what is wrong, and few enough that a producer's mistake does not flood the log.
_LOGGED_OF_A_BATCH = 3


class Rejections:
    """The policy of one topic.

    Args:
        topic: its name without the prefix.
        policy: what becomes of a record.
        publisher: sends dead letters.
        source: the topic that the records' offsets are of.
    """

    def __init__(self, topic: str, policy: Policy, publisher: Publisher, source: str = "") -> None:
        self._topic = topic
        self._source = source
        self._policy = policy
        self._publisher = publisher

    @property
    def block(self) -> bool:
        """Whether the topic stands still at the first rejected record."""
        return self._policy == "block"

    async def settle(self, rejected: Sequence[tuple[Message, Rejected]]) -> None:
        """Do away with rejected records; reading may pass them afterwards."""
        if self._policy == "dlq" and rejected:
            await self._keep(rejected)
        for _, error in rejected:
            RECORDS_REJECTED.labels(self._topic, error.reason.value).inc()
        for message, error in rejected[:_LOGGED_OF_A_BATCH]:
            log.warning(
                "record_rejected",
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                reason=error.reason.value,
                detail=error.detail,
                batch_rejected=len(rejected),
                policy=self._policy,
            )

    async def _keep(self, rejected: Sequence[tuple[Message, Rejected]]) -> None:
        letters = [
            dead_letter(message, error.reason, error.detail, self._source)
            for message, error in rejected
        ]
        while True:
            try:
                return await self._publisher.send_all(letters)
            except PublishFailed as failure:
                log.error("dead_letters_not_published", topic=self._topic, error=str(failure))
                await asyncio.sleep(RETRY_S)


def describe(message: Message, error: Rejected) -> str:
    """A record that is in the way, and what an operator can do about it."""
    return (
        f"blocked by partition {message.partition} offset {message.offset}: {error}; set the "
        "topic's deadletters policy to dlq or drop and restart"
    )

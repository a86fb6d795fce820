"""Dead letters: what becomes of a record that was rejected.

Owns the form of a dead letter: the original key, value and headers byte for byte, then headers that
say why and where from. Their names are those of Kafka Streams (KIP-1034), so that tools for its
dead letters can read these. Sending it is `stream.publish`' matter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .codec import Message
from .errors import Reason
from .topics import MAX_DEAD_LETTER_BYTES, dead_letter_topic

# Kafka Streams writes the exception and its message here; the reason and the detail are ours.
REASON_HEADER: Final = "__streams.errors.exception"
DETAIL_HEADER: Final = "__streams.errors.message"
TOPIC_HEADER: Final = "__streams.errors.topic"
PARTITION_HEADER: Final = "__streams.errors.partition"
OFFSET_HEADER: Final = "__streams.errors.offset"
# The length of a value that was cut; such values are sent compressed, far beyond what the topic
# they came from takes uncompressed.
CUT_HEADER: Final = "headwater-cut-from-bytes"
# What is left beside it is for the key and the headers.
MAX_VALUE_BYTES: Final = MAX_DEAD_LETTER_BYTES - (256 << 10)


class DeadLetter(NamedTuple):
    """A record for a dead-letter topic, in the order in which `stream.publish` sends it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(message: Message, reason: Reason, detail: str) -> DeadLetter:
    """The dead letter of `message`.

    Numbers are decimal text, as in Kafka Streams. A record that carries such headers already, as
    one that was sent again and rejected again, keeps them: the last of a name is the newest. A
    value that is longer than the dead-letter topic takes is cut, and a header says from what.
    """
    value = message.value
    why = [
        (REASON_HEADER, reason),
        (DETAIL_HEADER, detail),
        (TOPIC_HEADER, message.topic),
        (PARTITION_HEADER, str(message.partition)),
        (OFFSET_HEADER, str(message.offset)),
    ]
    if value is not None and len(value) > MAX_VALUE_BYTES:
        why.append((CUT_HEADER, str(len(value))))
        value = value[:MAX_VALUE_BYTES]
    return DeadLetter(
        dead_letter_topic(message.topic),
        message.key,
        value,
        [*message.headers, *((name, text.encode()) for name, text in why)],
    )

"""What can go wrong between Kafka and the rest, and whether trying again can help."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

# A detail may quote the record, and must fit beside it in a dead letter.
MAX_DETAIL: Final = 500


class StreamError(Exception):
    """Base of this package's errors."""

    retriable: ClassVar[bool] = False
    """Whether the same call can succeed later without anybody changing anything."""


class BrokerUnavailable(StreamError):
    """No broker answered in time; the message begins with the address, and ": "."""

    retriable = True


class TopicRefused(StreamError):
    """The cluster refused to create a topic; the message carries its reason."""


class TopicsDiffer(StreamError):
    """Topics are not as they must be; the message has each difference and what to do."""


class Reason(StrEnum):
    """Why a record was rejected: a closed set, so that it can label a metric."""

    NULL_KEY = "null_key"
    """The record has no key."""
    BAD_KEY = "bad_key"
    """The key is not an id in canonical decimal ASCII, or not the id that the value names."""
    NULL_VALUE = "null_value"
    """A null value on a topic where it means nothing."""
    UNKNOWN_FORMAT = "unknown_format"
    """The header `content-type` names no format that is known here."""
    UNDECODABLE = "undecodable"
    """The value is not in its format; in JSON, NaN and infinity are not."""
    INVALID_FIELD = "invalid_field"
    """A field is missing, has the wrong type or is out of its range; the detail names it."""
    TOO_MANY_FEATURES = "too_many_features"
    """More features than `MAX_FEATURES`."""
    FUTURE_EVENT = "future_event"
    """The event's time is more than a day after now."""
    BAD_VERSION = "bad_version"
    """The header `headwater-version` of a null value is not a version in decimal ASCII."""


class Rejected(StreamError):
    """A record that cannot be applied: dead-letter it and go on."""

    def __init__(self, reason: Reason, detail: str) -> None:
        detail = detail[:MAX_DETAIL]
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RequestRejected(Rejected):
    """A score request that cannot be served.

    It can be answered when both ids could be read, and is dead-lettered otherwise.
    """

    def __init__(
        self, reason: Reason, detail: str, request_id: str | None, user_id: int | None
    ) -> None:
        super().__init__(reason, detail)
        self.request_id = request_id
        self.user_id = user_id

    @property
    def code(self) -> str:
        """The `error.code` of the answer."""
        return self.reason.value

    @property
    def message(self) -> str:
        """The `error.message` of the answer."""
        return self.detail

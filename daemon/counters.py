"""Every series of the worker's counters, there before its first event.

Owns which values the labels take. A series that is born with its first event is born at 1, and
`rate()` and `increase()` never see the step from zero.
"""

from __future__ import annotations

from typing import Final

from monitoring.metrics import (
    RECORDS_APPLIED,
    RECORDS_EXPIRED,
    RECORDS_MISPLACED,
    RECORDS_REJECTED,
    RECORDS_SKIPPED,
    REQUESTS,
    STATE_REFUSED,
    UNKNOWN_KEYS,
)
from stream.errors import Reason
from stream.topics import ADS, ADS_CONTROL, DEAD_LETTERED, SCORE_REQUESTS, USER_EVENTS

from .origin import Refusal

# What a request ends with, beside the reasons why it could not be read.
OUTCOMES: Final = (
    "ok",
    "not_ready",
    "overloaded",
    "deadline",
    "stale",
    "not_owner",
    "internal",
    Reason.INVALID_FIELD.value,
    Reason.UNDECODABLE.value,
)


def begin() -> None:
    """Make the series, at zero."""
    for topic in DEAD_LETTERED:
        UNKNOWN_KEYS.labels(topic)
        for reason in Reason:
            RECORDS_REJECTED.labels(topic, reason.value)
    for topic in (ADS, ADS_CONTROL, USER_EVENTS):
        RECORDS_APPLIED.labels(topic)
    for topic in (ADS, ADS_CONTROL):
        RECORDS_SKIPPED.labels(topic, "version")
    RECORDS_SKIPPED.labels(USER_EVENTS, "erased")
    for topic in (USER_EVENTS, SCORE_REQUESTS):
        RECORDS_MISPLACED.labels(topic)
    RECORDS_EXPIRED.labels(USER_EVENTS)
    for refusal in Refusal:
        STATE_REFUSED.labels(refusal.value)
    for outcome in OUTCOMES:
        REQUESTS.labels(outcome)

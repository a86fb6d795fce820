"""A rejected record is kept until Kafka has it, and counted once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from daemon import rejections
from daemon.rejections import Policy, Rejections
from monitoring.metrics import RECORDS_REJECTED
from stream.errors import Reason, Rejected
from stream.publish import PublishFailed
from stream.requests import RequestMessage

MESSAGE = RequestMessage("ads", 0, 7, 1_000, b"1", b"{", ())


class Publisher:
    """Takes nothing a few times, then everything."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sent: list[Any] = []

    async def send_all(self, records: Iterable[Any]) -> None:
        if self.failures:
            self.failures -= 1
            raise PublishFailed("the broker is away")
        self.sent += records


def counted(topic: str) -> float:
    return RECORDS_REJECTED.labels(topic, Reason.UNDECODABLE.value)._value.get()


@pytest.mark.parametrize(("policy", "letters"), [("dlq", 1), ("drop", 0)])
async def test_a_record_is_settled_only_when_its_dead_letter_is_there(
    monkeypatch: pytest.MonkeyPatch, policy: Policy, letters: int
) -> None:
    monkeypatch.setattr(rejections, "RETRY_S", 0.0)
    publisher: Any = Publisher(failures=3)
    before = counted("ads")
    rejected = Rejected(Reason.UNDECODABLE, "")
    await Rejections("ads", policy, publisher).settle([(MESSAGE, rejected)])
    assert len(publisher.sent) == letters
    assert counted("ads") == before + 1

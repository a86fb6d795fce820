"""What is pending on the topics, asked of the broker apart from those who read them.

Owns a consumer that only asks where partitions end. A reader that has stopped being answered knows
no newer end than its own position, and would seem to have nothing to do. Promises a known end no
older than a second while the broker answers, for the partitions that the worker reads and for the
requests that it owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NoReturn

from monitoring.freshness import LagTracker
from stream.ends import EndsReader
from stream.errors import BrokerUnavailable
from stream.requests import RequestAgent
from stream.settings import Kafka
from stream.topics import SCORE_REQUESTS

INTERVAL_S = 1.0
ANSWER_S = 5.0


class PendingWatch:
    """Asks for as long as the worker lives.

    Args:
        kafka: the cluster.
        names: the topics that are read, without the prefix; their partitions are known to `lag`.
        agent: whose requests are watched too.
        lag: is told.
    """

    def __init__(
        self, kafka: Kafka, names: Collection[str], agent: RequestAgent, lag: LagTracker
    ) -> None:
        self._kafka = kafka
        self._names = names
        self._agent = agent
        self._lag = lag
        self._assignment = 0

    async def run(self) -> NoReturn:
        """Ask until cancelled."""
        async with EndsReader(self._kafka) as reader:
            while True:
                asked = {name: self._lag.lag(name).keys() for name in self._names}
                owned, assignment = self._agent.partitions(), self._agent.assignments()
                # What is wrong with the broker is told by others.
                with suppress(BrokerUnavailable):
                    ends = await reader.ends({**asked, SCORE_REQUESTS: owned}, ANSWER_S)
                    requests = ends.pop(SCORE_REQUESTS)
                    if assignment == self._agent.assignments():
                        self._note_requests(requests, assignment)
                    for name, offsets in ends.items():
                        for partition, end in offsets.items():
                            self._lag.note_end(name, partition, end)
                await asyncio.sleep(INTERVAL_S)

    def _note_requests(self, ends: Mapping[int, int], assignment: int) -> None:
        """Begin anew with each assignment, at the ends: others may have handled what is before."""
        if assignment != self._assignment:
            self._assignment = assignment
            for partition in self._lag.lag(SCORE_REQUESTS):
                self._lag.forget(SCORE_REQUESTS, partition)
            for partition, end in ends.items():
                self._lag.note_applied(SCORE_REQUESTS, partition, end, None)
        for partition, end in ends.items():
            self._lag.note_end(SCORE_REQUESTS, partition, end)
        for partition, next_offset in self._agent.next_offsets().items():
            self._lag.note_applied(SCORE_REQUESTS, partition, next_offset, None)

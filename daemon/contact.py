"""Whether Kafka answers.

Owns a connection of its own, over which a broker is asked every second: a reader that is paused, or
that has nothing to read, cannot tell silence from peace. Promises that an outage shows, as seconds
of silence that rise from its first moment and, when it lasts, as a reason not to be ready; and that
the reason goes away with it. Whether it is the same Kafka as before is `origin`'s matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import structlog

from monitoring.health import Readiness
from monitoring.metrics import KAFKA_SILENCE
from stream.cluster import Cluster, ClusterClient
from stream.errors import BrokerUnavailable
from stream.settings import Kafka

log = structlog.get_logger(__name__)

CONDITION = "kafka"
INTERVAL_S = 1.0
# A broker that is alive answers within milliseconds; one in a long pause, within this.
ANSWER_S = 5.0
# Metadata are consistent only after a while. A topic that so many answers lack is gone.
INCOMPLETE_LOOKS = 5


class KafkaContact:
    """Asks for as long as the worker lives.

    Args:
        kafka: the cluster.
        names: topics to ask for, without the prefix.
        readiness: has the condition `CONDITION`.
        unreachable_s: a silence that turns readiness off.
    """

    def __init__(
        self, kafka: Kafka, names: Sequence[str], readiness: Readiness, unreachable_s: float
    ) -> None:
        self._kafka = kafka
        self._names = names
        self._readiness = readiness
        self._unreachable_s = unreachable_s
        self._heard_s = time.monotonic()
        self._out = False
        self._incomplete = 0
        self.cluster: Cluster | None = None
        KAFKA_SILENCE.set_function(self.silence_s)

    def silence_s(self) -> float:
        """Seconds since the last answer, or since the start of the worker."""
        return time.monotonic() - self._heard_s

    def status(self) -> dict[str, Any]:
        """For `/v1/status`: the cluster's id, and the silence; null before the first answer."""
        if self.cluster is None:
            return {"cluster": None, "silence_s": None}
        return {"cluster": self.cluster.id, "silence_s": round(self.silence_s(), 1)}

    async def run(self, check: Callable[[Cluster], None]) -> NoReturn:
        """Ask until cancelled; `check` gets every answer, and raises if it will not do."""
        async with ClusterClient(self._kafka, self._names) as client:
            while True:
                try:
                    cluster = await client.look(min(ANSWER_S, self._unreachable_s))
                except BrokerUnavailable as error:
                    self._missed(error)
                else:
                    self._heard(cluster)
                    if self._complete(cluster):
                        check(cluster)
                await asyncio.sleep(INTERVAL_S)

    def _heard(self, cluster: Cluster) -> None:
        self._heard_s = time.monotonic()
        self.cluster = cluster
        self._readiness.meet(CONDITION)
        if self._out:
            self._out = False
            log.warning("kafka_reachable")

    def _complete(self, cluster: Cluster) -> bool:
        """Whether an answer may be judged: one alone may not know of every topic yet."""
        missing = set(self._names) - cluster.topics.keys()
        self._incomplete = self._incomplete + 1 if missing else 0
        return self._incomplete in (0, INCOMPLETE_LOOKS)

    def _missed(self, error: BrokerUnavailable) -> None:
        silence_s = self.silence_s()
        if silence_s < self._unreachable_s:
            return
        self._readiness.unmeet(
            CONDITION, f"kafka_unreachable: no answer for {silence_s:.0f} s; {error}"
        )
        if not self._out:
            self._out = True
            log.error("kafka_unreachable", silence_s=round(silence_s, 1), error=str(error))

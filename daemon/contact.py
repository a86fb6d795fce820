"""Whether Kafka answers.

Owns a connection of its own, over which a broker is asked every second: a reader that is paused, or
that has nothing to read, cannot tell silence from peace. Promises that an outage shows, as seconds
of silence that rise from its first moment and, when it lasts, as a reason not to be ready; and that
the reason goes away with it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NoReturn

import structlog

from monitoring.health import Readiness
from monitoring.metrics import KAFKA_SILENCE
from stream.cluster import Cluster, ClusterClient
from stream.errors import BrokerUnavailable
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, SCORE_REQUESTS, USER_EVENTS

log = structlog.get_logger(__name__)

CONDITION = "kafka"
READ_TOPICS = (ADS, ADS_CONTROL, USER_EVENTS, SCORE_REQUESTS)
INTERVAL_S = 1.0
# A broker that is alive answers within milliseconds; one in a long pause, within this.
ANSWER_S = 5.0


class KafkaContact:
    """Asks for as long as the worker lives.

    Args:
        kafka: the cluster.
        readiness: has the condition `CONDITION`.
        unreachable_s: a silence that turns readiness off.
    """

    def __init__(self, kafka: Kafka, readiness: Readiness, unreachable_s: float) -> None:
        self._kafka = kafka
        self._readiness = readiness
        self._unreachable_s = unreachable_s
        self._heard_s = time.monotonic()
        self._out = False
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

    async def run(self) -> NoReturn:
        """Ask until cancelled."""
        async with ClusterClient(self._kafka, READ_TOPICS) as client:
            while True:
                try:
                    cluster = await client.look(min(ANSWER_S, self._unreachable_s))
                except BrokerUnavailable as error:
                    self._missed(error)
                else:
                    self._heard(cluster)
                await asyncio.sleep(INTERVAL_S)

    def _heard(self, cluster: Cluster) -> None:
        self._heard_s = time.monotonic()
        self.cluster = cluster
        self._readiness.meet(CONDITION)
        if self._out:
            self._out = False
            log.warning("kafka_reachable")

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

"""Where a worker's state comes from, and whether it may be gone on from.

Owns the identity of what is read: the cluster's id, the topics' ids, which offsets they have, and
how long they remember deletions. Promises that state is never gone on from when its offsets mean
other records, or when a deletion may have been forgotten since: it is refused with the reason, or
begun anew, and either is said loudly. `docs/recovery.md` has every case.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from monitoring.metrics import RECORDS_EXPIRED, STATE_REFUSED
from stream import topics
from stream.cluster import Cluster, ClusterClient, look
from stream.errors import StreamError, TopicsDiffer
from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, SCORE_REQUESTS, USER_EVENTS

from .clock import wall_ms
from .files import write_json
from .settings import ConfigurationError

log = structlog.get_logger(__name__)

READ_TOPICS = (ADS, ADS_CONTROL, USER_EVENTS, SCORE_REQUESTS)
AD_TOPICS = (ADS, ADS_CONTROL)
# Of which there is state.
CLAIMED_TOPICS = (*AD_TOPICS, USER_EVENTS)
ANSWER_S = 30.0
RETRY_S = 0.05
ORIGIN = "origin.json"
HISTORIES = "histories"
# What is left of `delete.retention.ms` after this share is for reading what came since.
USABLE_SHARE = 6 / 7

Offsets = Mapping[str, Mapping[int, int]]
Identity = dict[str, Any]


class Refusal(StrEnum):
    """Why state is not gone on from: a closed set, so that it can label a metric."""

    TOPICS = "topics"
    """Its offsets are of other topics, or of topics that were created anew."""
    MODELS = "models"
    """Its ads were embedded by other models."""
    AGE = "age"
    """Deletions may have been forgotten since it was complete."""
    OFFSETS = "offsets"
    """The topics do not have the records that would come next."""


class OriginChanged(StreamError):
    """The records that are read are not those that the state was made of; start again."""


@dataclass(frozen=True)
class Origin:
    """What the cluster says of the topics that a worker reads.

    Args:
        kafka: the cluster.
        cluster: its id and its topics'.
        starts: topic -> partition -> the oldest offset.
        ends: topic -> partition -> the offset after the newest.
        tombstones_ms: how long the topics of ads remember a deletion, at least.
    """

    kafka: Kafka
    cluster: Cluster
    starts: Offsets
    ends: Offsets
    tombstones_ms: int

    @classmethod
    async def find(cls, kafka: Kafka) -> Origin:
        """Ask the cluster; the topics exist.

        Raises:
            StreamError: it does not answer.
        """
        async with ClusterClient(kafka, READ_TOPICS) as client:
            # A broker may not know yet of a topic that another has created.
            while set(READ_TOPICS) - (cluster := await client.look(ANSWER_S)).topics.keys():
                await asyncio.sleep(RETRY_S)
        async with TopicReader(kafka, map(kafka.topic, CLAIMED_TOPICS)) as reader:
            starts, ends = reader.positions(), await reader.end_offsets()
        return cls(
            kafka,
            cluster,
            {kafka.name(topic): offsets for topic, offsets in starts.items()},
            {kafka.name(topic): offsets for topic, offsets in ends.items()},
            await topics.tombstones_ms(kafka, AD_TOPICS),
        )

    def identity(self, names: Collection[str] = AD_TOPICS) -> Identity:
        """What is stored beside state that was made of these topics."""
        return {
            "cluster": self.cluster.id,
            "topics": {self.kafka.topic(name): self.cluster.topics[name].id for name in names},
        }

    def source(self, name: str) -> str:
        """A topic, and on which cluster: what its offsets are of."""
        return self.cluster.source(self.kafka, name)

    def refusal(
        self, identity: Any, offsets: Offsets, complete_ms: int
    ) -> tuple[Refusal, str] | None:
        """Why a snapshot of the ads must not be gone on from; None if it may.

        Args:
            identity: as `identity` was when it was written.
            offsets: topic -> partition -> where reading would go on.
            complete_ms: everything that was written before is in it.
        """
        if identity != self.identity():
            return Refusal.TOPICS, f"its offsets are of other topics: {identity}"
        age_ms = wall_ms() - complete_ms
        if age_ms > USABLE_SHARE * self.tombstones_ms:
            hours = age_ms / 3_600_000, self.tombstones_ms / 3_600_000
            return Refusal.AGE, (
                f"it is {hours[0]:.1f} hours old, and deletions may be forgotten after "
                f"{hours[1]:.1f}"
            )
        for topic, next_offsets in offsets.items():
            for partition, offset in next_offsets.items():
                start = self.starts[topic].get(partition, 0)
                end = self.ends[topic].get(partition, 0)
                if not start <= offset <= end:
                    return Refusal.OFFSETS, (
                        f"{topic} partition {partition} has offsets {start} to {end}, not {offset}"
                    )
        return None

    def claim(self, folder: Path) -> None:
        """Bind a worker's folder to these topics; histories of a topic that is gone are deleted.

        `refuse_foreign` has been asked before.
        """
        here, there = self.identity(CLAIMED_TOPICS), _claimed(folder)
        events = self.kafka.topic(USER_EVENTS)
        if there is not None and here["topics"][events] != there["topics"][events]:
            log.error("histories_deleted", reason=f"{events} was created anew")
            STATE_REFUSED.labels(Refusal.TOPICS).inc()
            if (folder / HISTORIES).exists():
                shutil.rmtree(folder / HISTORIES)
        write_json(folder / ORIGIN, here)

    def check(self, cluster: Cluster) -> None:
        """Hold what the cluster says later against what it said first.

        Raises:
            ConfigurationError: it is another cluster.
            OriginChanged: a topic was deleted, or created anew.
            TopicsDiffer: partitions were added.
        """
        if cluster.id != self.cluster.id:
            raise ConfigurationError(
                f"{self.kafka.bootstrap} is cluster {cluster.id} now, and was {self.cluster.id}"
            )
        for name, before in self.cluster.topics.items():
            now, topic = cluster.topics.get(name), self.kafka.topic(name)
            if now is None:
                raise OriginChanged(f"{topic} was deleted; a new start creates it, empty")
            if now.id != before.id:
                raise OriginChanged(f"{topic} was created anew; start again to read it")
            if now.partitions != before.partitions:
                raise TopicsDiffer(
                    str(
                        topics.Difference(
                            topic, "partitions", str(before.partitions), str(now.partitions)
                        )
                    )
                )


async def refuse_foreign(folder: Path, kafka: Kafka) -> None:
    """Nothing must be done, not even a topic created, where a folder's state is not from.

    Raises:
        ConfigurationError: it is of another cluster or of other topics.
        StreamError: the cluster does not answer.
    """
    there = _claimed(folder)
    if there is None:
        return
    here = (await look(kafka, ())).id
    names = {kafka.topic(name) for name in CLAIMED_TOPICS}
    if here != there["cluster"]:
        difference = f"cluster {there['cluster']}, and {kafka.bootstrap} is {here}"
    elif names != there["topics"].keys():
        difference = f"{', '.join(sorted(there['topics']))}, and not of {', '.join(sorted(names))}"
    else:
        return
    raise ConfigurationError(
        f"{folder}: its state is of {difference}; correct kafka.bootstrap or kafka.prefix, give "
        "this worker another worker.id, or delete the folder to begin anew"
    )


def _claimed(folder: Path) -> Identity | None:
    """What `claim` has written; None in a folder without state.

    Raises:
        ConfigurationError: it is not what was written.
    """
    path = folder / ORIGIN
    if not path.exists():
        return None
    try:
        identity: Identity = json.loads(path.read_bytes())
        return {"cluster": str(identity["cluster"]), "topics": dict(identity["topics"])}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigurationError(
            f"{path}: {error!r}; nobody can tell what the folder's state is of: delete the folder "
            "to begin anew"
        ) from None


def where_to_go_on(
    next_offsets: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """Where to go on reading `user-events`, from where the histories say.

    Events that have expired are gone for everybody, and the histories stay. When the topic has lost
    its newest, it is read from its beginning: events that are known are recognised.

    Args:
        next_offsets: by partition.
        bounds: partition -> its oldest offset and the one after its newest.
    """
    found = dict(next_offsets)
    for partition, offset in next_offsets.items():
        start, end = bounds[partition]
        if start <= offset <= end:
            continue
        found[partition] = start
        lost = "expired" if offset < start else "newest_lost"
        RECORDS_EXPIRED.labels(USER_EVENTS).inc(max(start - offset, 0))
        log.error(
            "events_missing",
            why=lost,
            partition=partition,
            wanted=offset,
            first=start,
            end=end,
            going_on_at=start,
        )
    return found

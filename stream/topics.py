"""The topics: their names, partitions and configuration, creating and checking them.

Owns the table of what must exist on the cluster. Promises that nothing that exists is changed: what
is missing is created, what differs is reported with what an operator can do about it, and only
`delete` takes anything away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from .errors import BrokerUnavailable, TopicRefused, TopicsDiffer
from .settings import Kafka

ADS: Final = "ads"
ADS_CONTROL: Final = "ads-control"
USER_EVENTS: Final = "user-events"
USER_HISTORIES: Final = "user-histories"
SCORE_REQUESTS: Final = "score-requests"
SCORE_RESPONSES: Final = "score-responses"
IMPRESSIONS: Final = "impressions"
WORKERS: Final = "workers"

DEAD_LETTERED: Final = (ADS, ADS_CONTROL, USER_EVENTS, SCORE_REQUESTS)

MAX_MESSAGE_BYTES: Final = 1 << 20
# A dead letter is the original record, whatever its size, and more headers.
MAX_DEAD_LETTER_BYTES: Final = 2 << 20

AD_PARTITIONS: Final = 4
USER_PARTITIONS: Final = 8

# More of these does no harm: an operator may keep records longer and take bigger ones.
_MINIMUMS: Final = frozenset({"max.message.bytes", "retention.ms", "delete.retention.ms"})
_UNLIMITED: Final = "-1"

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_UNKNOWN: Final = "unknown to this broker"
# The broker's own default, which is 1 on a cluster of one node.
_DEFAULT_REPLICATION: Final = -1

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be."""

    name: str
    """As on the cluster, with the prefix."""
    partitions: int
    config: Mapping[str, str]
    """Kafka's topic settings that are not left to the cluster's defaults; sizes and retention
    are the least that will do."""


@dataclass(frozen=True)
class Difference:
    """One way in which a topic is not as it must be; as text, with what an operator can do."""

    topic: str
    setting: str
    """`topic` when it is missing, `partitions`, or the name of a topic setting."""
    expected: str
    found: str

    def __str__(self) -> str:
        if self.setting == "topic":
            return f"{self.topic}: {self.found}; create it with `headwater topics create`"
        if self.setting == "partitions":
            remedy = (
                "a changed count moves keys to other partitions, so use another prefix and "
                "publish again, or delete the topic and create it anew"
            )
        else:
            remedy = "set it on the topic, or use another prefix"
        return f"{self.topic}: {self.setting} is {self.found}, not {self.expected}; {remedy}"


def dead_letter_topic(topic: str) -> str:
    """Where the rejected records of `topic` go."""
    return f"{topic}.dlq"


def topic_specs(
    prefix: str = "", *, ad_partitions: int = AD_PARTITIONS, user_partitions: int = USER_PARTITIONS
) -> list[TopicSpec]:
    """Every topic, named with `prefix`.

    Topics keyed by user share one count, because the worker that owns a partition of the requests
    must own the same users' events.
    """
    ads = _compacted(**{"delete.retention.ms": str(7 * _DAY_MS)})
    specs = [
        TopicSpec(ADS, ad_partitions, ads),
        TopicSpec(ADS_CONTROL, ad_partitions, ads),
        TopicSpec(USER_EVENTS, user_partitions, _deleted_after(90 * _DAY_MS)),
        TopicSpec(USER_HISTORIES, user_partitions, _compacted()),
        TopicSpec(SCORE_REQUESTS, user_partitions, _deleted_after(_HOUR_MS)),
        TopicSpec(SCORE_RESPONSES, user_partitions, _deleted_after(_HOUR_MS)),
        TopicSpec(IMPRESSIONS, user_partitions, _deleted_after(30 * _DAY_MS)),
        TopicSpec(WORKERS, 1, _compacted()),
    ]
    dead_letters = _deleted_after(30 * _DAY_MS, MAX_DEAD_LETTER_BYTES)
    specs += [TopicSpec(dead_letter_topic(name), 1, dead_letters) for name in DEAD_LETTERED]
    return [TopicSpec(prefix + spec.name, spec.partitions, spec.config) for spec in specs]


async def create_missing(
    kafka: Kafka, specs: Iterable[TopicSpec] | None = None, *, timeout_s: float = 30.0
) -> list[str]:
    """Create the topics that are not there; return when all can be written and read.

    Args:
        kafka: the cluster.
        specs: what must exist; by default `topic_specs` of the cluster's prefix.
        timeout_s: for all of it.

    Returns:
        The names of the topics created by this call.

    Raises:
        TopicRefused: the cluster does not want one of them.
        BrokerUnavailable: no broker answers, or the topics are not ready in time.
    """
    wanted = {spec.name: spec for spec in _specs(kafka, specs)}
    async with _admin(kafka, timeout_s) as admin:
        present = await _partitions(admin)
        created = await _create(admin, [s for name, s in wanted.items() if name not in present])
        await _until_led(admin, set(wanted))
    if created:
        log.info("topics_created", topics=created)
    return created


async def check(
    kafka: Kafka, specs: Iterable[TopicSpec] | None = None, *, timeout_s: float = 30.0
) -> list[Difference]:
    """How the cluster differs from `specs`; empty when it does not.

    Raises:
        BrokerUnavailable: no broker answers in time.
    """
    wanted = _specs(kafka, specs)
    async with _admin(kafka, timeout_s) as admin:
        partitions = await _partitions(admin)
        present = [spec for spec in wanted if spec.name in partitions]
        configs = await _configs(admin, present)
    differences = []
    for spec in wanted:
        if spec.name not in partitions:
            differences.append(Difference(spec.name, "topic", "present", "missing"))
            continue
        found = {"partitions": str(len(partitions[spec.name])), **configs[spec.name]}
        expected = {"partitions": str(spec.partitions), **spec.config}
        differences += [
            Difference(spec.name, setting, _wanted(setting, value), found.get(setting, _UNKNOWN))
            for setting, value in expected.items()
            if not _suffices(setting, found.get(setting, _UNKNOWN), value)
        ]
    return differences


async def tombstones_ms(kafka: Kafka, names: Iterable[str], *, timeout_s: float = 30.0) -> int:
    """How long these topics, named without the prefix, all remember a deletion; they exist.

    Raises:
        BrokerUnavailable: no broker answers in time.
    """
    setting = "delete.retention.ms"
    specs = [TopicSpec(kafka.topic(name), 1, {setting: ""}) for name in names]
    async with _admin(kafka, timeout_s) as admin:
        configs = await _configs(admin, specs)
    return min(int(config[setting]) for config in configs.values())


async def ensure(kafka: Kafka) -> None:
    """Create what is missing, and refuse topics that are not as they must be.

    A topic that is missing would be made by a broker that auto-creates, with too few partitions,
    and ignored for good by a Faust agent.

    Raises:
        TopicsDiffer: names every difference.
        TopicRefused, BrokerUnavailable: as `create_missing`.
    """
    await create_missing(kafka)
    if differences := await check(kafka):
        raise TopicsDiffer("\n".join(f"topic {line}" for line in differences))


async def delete(
    kafka: Kafka, specs: Iterable[TopicSpec] | None = None, *, timeout_s: float = 30.0
) -> list[str]:
    """Delete the topics of `specs` that are there, with all their records; says which.

    Raises:
        BrokerUnavailable: no broker answers in time.
    """
    names = {spec.name for spec in _specs(kafka, specs)}
    async with _admin(kafka, timeout_s) as admin:
        present = sorted(names & (await _partitions(admin)).keys())
        if present:
            await admin.delete_topics(present)
        while names & (await _partitions(admin)).keys():
            await asyncio.sleep(0.05)
    return present


def _compacted(**more: str) -> dict[str, str]:
    size = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    return {"cleanup.policy": "compact", **size, **more}


def _deleted_after(retention_ms: int, max_bytes: int = MAX_MESSAGE_BYTES) -> dict[str, str]:
    size = {"max.message.bytes": str(max_bytes)}
    return {"cleanup.policy": "delete", "retention.ms": str(retention_ms), **size}


def _suffices(setting: str, found: str, wanted: str) -> bool:
    if setting not in _MINIMUMS or found == _UNKNOWN:
        return found == wanted
    return found == _UNLIMITED or int(found) >= int(wanted)


def _wanted(setting: str, value: str) -> str:
    return f"at least {value}" if setting in _MINIMUMS else value


def _specs(kafka: Kafka, specs: Iterable[TopicSpec] | None) -> list[TopicSpec]:
    return topic_specs(kafka.prefix) if specs is None else list(specs)


@asynccontextmanager
async def _admin(kafka: Kafka, timeout_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client; whatever keeps it from its answers becomes `BrokerUnavailable`."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except KafkaError as error:
        raise BrokerUnavailable(
            f"{kafka.bootstrap}: {error}; is the broker running, and is this its address?"
        ) from error
    except TimeoutError as error:
        raise BrokerUnavailable(f"{kafka.bootstrap}: no answer in {timeout_s:g} s") from error
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, list[dict[str, Any]]]:
    """Every topic's partitions as in the metadata.

    Asks for all topics: asking for one by name would create it on brokers that auto-create.
    """
    return {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[str]:
    if not specs:
        return []
    response = await admin.create_topics(
        [
            NewTopic(spec.name, spec.partitions, _DEFAULT_REPLICATION, {}, dict(spec.config))
            for spec in specs
        ]
    )
    created = []
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        # Another worker that starts at the same time may have been faster.
        elif error is not TopicAlreadyExistsError:
            reason = message[0] if message and message[0] else error.description
            raise TopicRefused(f"{name}: {reason}")
    return created


async def _until_led(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Wait until the metadata shows every topic with a leader for each partition.

    Metadata is eventually consistent: the first answer after a creation may not have it yet.
    """
    while True:
        known = await _partitions(admin)
        if names <= known.keys() and all(
            known[name] and all(partition["leader"] >= 0 for partition in known[name])
            for name in names
        ):
            return
        await asyncio.sleep(0.05)


async def _configs(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> dict[str, dict[str, str]]:
    if not specs:
        return {}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, spec.name, dict.fromkeys(spec.config))
        for spec in specs
    ]
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for response in await admin.describe_configs(resources)
        for _code, _message, _type, name, entries, *_ in response.resources
    }

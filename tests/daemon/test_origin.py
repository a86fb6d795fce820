"""State is gone on from only where its offsets still mean the same records."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.origin import (
    HISTORIES,
    ORIGIN,
    READ_TOPICS,
    Origin,
    OriginChanged,
    Refusal,
    refuse_foreign,
    where_to_go_on,
)
from daemon.settings import ConfigurationError
from monitoring.metrics import REGISTRY
from stream.cluster import Cluster, Topic
from stream.errors import TopicsDiffer
from stream.settings import Kafka

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
CLUSTER = Cluster("here", {name: Topic(f"{name}-1", 2) for name in READ_TOPICS})
ORIGIN_NOW = Origin(
    Kafka("broker:9092", "p-"),
    CLUSTER,
    starts={"ads": {0: 0, 1: 10}, "ads-control": {0: 0, 1: 0}, "user-events": {0: 50, 1: 0}},
    ends={"ads": {0: 100, 1: 20}, "ads-control": {0: 0, 1: 9}, "user-events": {0: 80, 1: 7}},
    tombstones_ms=WEEK_MS,
)


def now_ms() -> int:
    return int(time.time() * 1e3)


def with_topic(name: str, topic: Topic) -> Cluster:
    return Cluster("here", {**CLUSTER.topics, name: topic})


def refused(
    offsets: dict[str, dict[int, int]] | None = None, age_ms: int = 0, identity: Any = None
) -> Refusal | None:
    found = ORIGIN_NOW.refusal(identity or ORIGIN_NOW.identity(), offsets or {}, now_ms() - age_ms)
    return found[0] if found else None


def test_a_snapshot_of_these_topics_is_gone_on_from() -> None:
    assert refused({"ads": {0: 100, 1: 10}, "ads-control": {0: 0, 1: 9}}) is None


@pytest.mark.parametrize(
    "identity",
    [
        "127.0.0.1:9092 p-",
        replace(ORIGIN_NOW, cluster=replace(CLUSTER, id="there")).identity(),
        replace(ORIGIN_NOW, kafka=Kafka("broker:9092", "q-")).identity(),
        replace(ORIGIN_NOW, cluster=with_topic("ads", Topic("ads-0", 2))).identity(),
        replace(ORIGIN_NOW, cluster=with_topic("ads-control", Topic("x", 2))).identity(),
    ],
    ids=["of an earlier version", "another cluster", "another prefix", "ads anew", "control anew"],
)
def test_a_snapshot_of_other_topics_is_refused(identity: Any) -> None:
    assert refused(identity=identity) is Refusal.TOPICS


def test_another_address_of_the_same_cluster_is_the_same_origin() -> None:
    elsewhere = replace(ORIGIN_NOW, kafka=Kafka("other:9092", "p-"))
    assert elsewhere.identity() == ORIGIN_NOW.identity()


def test_a_snapshot_is_refused_when_deletions_since_may_be_forgotten() -> None:
    """As long as the topics really remember them, not as long as is asked of the topics."""
    day_ms = 24 * HOUR_MS
    assert refused(age_ms=5 * day_ms) is None
    assert refused(age_ms=6 * day_ms + HOUR_MS) is Refusal.AGE
    longer = replace(ORIGIN_NOW, tombstones_ms=2 * WEEK_MS)
    assert longer.refusal(longer.identity(), {}, now_ms() - 8 * day_ms) is None


@pytest.mark.parametrize(
    "offsets",
    [{"ads": {1: 9}}, {"ads": {0: 101}}, {"ads-control": {0: 1}}, {"ads": {2: 1}}],
    ids=["expired", "beyond the end", "empty", "no such partition"],
)
def test_a_snapshot_whose_next_records_are_gone_is_refused(
    offsets: dict[str, dict[int, int]],
) -> None:
    assert refused(offsets) is Refusal.OFFSETS


def test_expired_events_are_counted_and_passed() -> None:
    def expired() -> float:
        return (
            REGISTRY.get_sample_value("headwater_records_expired_total", {"topic": "user-events"})
            or 0.0
        )

    before = expired()
    assert where_to_go_on({0: 45, 1: 3}, {0: (50, 80), 1: (0, 7)}) == {0: 50, 1: 3}
    assert expired() == before + 5


def test_events_are_read_again_when_the_topic_has_lost_its_newest() -> None:
    assert where_to_go_on({0: 60, 1: 8}, {0: (50, 80), 1: (0, 7)}) == {0: 60, 1: 0}


def test_histories_of_a_topic_that_is_gone_are_deleted_and_others_stay(tmp_path: Path) -> None:
    ORIGIN_NOW.claim(tmp_path)
    assert json.loads((tmp_path / ORIGIN).read_text())["cluster"] == "here"
    (tmp_path / HISTORIES / "row").mkdir(parents=True)
    replace(ORIGIN_NOW, cluster=with_topic("ads", Topic("ads-2", 2))).claim(tmp_path)
    assert (tmp_path / HISTORIES / "row").exists()
    replace(ORIGIN_NOW, cluster=with_topic("user-events", Topic("e-2", 2))).claim(tmp_path)
    assert not (tmp_path / HISTORIES).exists()


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b'{"cluster": "c", "topics": 7}'])
async def test_a_folder_that_cannot_tell_where_it_is_from_is_refused_by_name(
    tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / ORIGIN).write_bytes(raw)
    with pytest.raises(ConfigurationError, match=r"origin\.json.*delete the folder"):
        await refuse_foreign(tmp_path, ORIGIN_NOW.kafka)


@pytest.mark.parametrize(
    ("later", "error", "named"),
    [
        (replace(CLUSTER, id="there"), ConfigurationError, "is cluster there now, and was here"),
        (with_topic("ads", Topic("ads-2", 2)), OriginChanged, "p-ads was created anew"),
        (Cluster("here", {}), OriginChanged, "p-ads was deleted"),
        (
            with_topic("score-requests", Topic("score-requests-1", 3)),
            TopicsDiffer,
            "p-score-requests: partitions is 3, not 2",
        ),
    ],
    ids=["cluster", "anew", "deleted", "partitions"],
)
def test_what_changes_under_a_running_worker_is_an_error(
    later: Cluster, error: type[Exception], named: str
) -> None:
    ORIGIN_NOW.check(CLUSTER)
    with pytest.raises(error, match=named):
        ORIGIN_NOW.check(later)

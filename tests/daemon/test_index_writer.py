"""What a snapshot holds beside the index."""

from __future__ import annotations

from pathlib import Path

from daemon import models
from daemon.clock import Clock, ReplayClock, WallClock, wall_ms
from daemon.index_writer import IndexWriter
from daemon.origin import READ_TOPICS, Origin
from daemon.settings import load
from stream.cluster import Cluster, Topic
from stream.settings import Kafka

HOUR_MS = 3_600_000
ORIGIN = Origin(
    Kafka("broker:9092"),
    Cluster("here", {name: Topic(f"{name}-1", 1) for name in READ_TOPICS}),
    starts={},
    ends={},
    tombstones_ms=24 * HOUR_MS,
)


def opened(folder: Path, clock: Clock) -> IndexWriter:
    settings = load(overrides={"worker": {"state_dir": str(folder)}})
    return IndexWriter.open(settings, models.load(settings), clock, "cpu", ORIGIN)


def test_the_replayed_time_is_kept(tmp_path: Path) -> None:
    """Ads of a flight that has begun would otherwise wait for the next record of the clock."""
    opened(tmp_path, ReplayClock(5 * HOUR_MS)).snapshot(wall_ms())
    again = ReplayClock()
    opened(tmp_path, again)
    assert again.now_ms() == 5 * HOUR_MS


def test_a_wall_clocks_time_does_not_move_a_replay(tmp_path: Path) -> None:
    opened(tmp_path, WallClock()).snapshot(wall_ms())
    replayed = ReplayClock()
    opened(tmp_path, replayed)
    assert replayed.now_ms() == 0

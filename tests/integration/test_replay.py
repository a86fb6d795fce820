"""The replay on a real cluster: what is there after each stretch, and in which order it came."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from daemon.commands.replay import replay as replay_command
from daemon.datasets.complete_journey import Recording, week_start_ms
from daemon.replay import HOUR_MS, Progress, Replay
from stream.codec import CLOCK_KEY, decode_control, decode_event
from stream.publish import Publisher
from stream.reader import Record, TopicReader
from stream.records import ClockTick
from stream.settings import Kafka
from stream.topics import AD_PARTITIONS, ADS, ADS_CONTROL, USER_EVENTS, create_missing

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
MONDAY_2, MONDAY_3 = week_start_ms(2), week_start_ms(3)
FAR_MS = week_start_ms(60)


@pytest.fixture
async def publisher(kafka: Kafka) -> AsyncIterator[Publisher]:
    await create_missing(kafka)
    async with Publisher(kafka) as publisher:
        yield publisher


@pytest.fixture
def recording(kafka: Kafka) -> Recording:
    return Recording(kafka, 2, 3)


async def read_all(kafka: Kafka, name: str) -> list[Record]:
    """Everything on a topic, partition by partition in order."""
    deadline = time.monotonic() + DEADLINE_S
    records: list[Record] = []
    async with TopicReader(kafka, [kafka.topic(name)]) as reader:
        ends = await reader.end_offsets()
        while reader.positions() != ends:
            assert time.monotonic() < deadline, f"only {len(records)} records arrived"
            records += await reader.read(timeout_ms=200)
    return sorted(records, key=lambda record: (record.partition, record.offset))


def event_times(records: Iterable[Record]) -> list[int]:
    return [decode_event(record, FAR_MS).event.time_ms for record in records]


def event_ids(records: Iterable[Record]) -> list[str]:
    return sorted(decode_event(record, FAR_MS).event.event_id for record in records)


def clock_times(records: Iterable[Record]) -> dict[int, list[int]]:
    """The clock's records by partition, in order."""
    times: defaultdict[int, list[int]] = defaultdict(list)
    for record in records:
        change = decode_control(record)
        if isinstance(change, ClockTick):
            times[record.partition].append(change.time_ms)
    return dict(times)


async def test_the_first_stretch_brings_the_past_the_ads_and_the_clock(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    progress = await Replay(kafka, publisher, recording).until(MONDAY_2)
    events = await read_all(kafka, USER_EVENTS)
    assert max(event_times(events)) < MONDAY_2
    assert len(events) == len(list(recording.events(0, MONDAY_2)))
    ads = {record.key for record in await read_all(kafka, ADS)}
    assert ads == {key for topic, key, *_ in recording.ad_changes(MONDAY_2) if topic.endswith(ADS)}
    control = await read_all(kafka, ADS_CONTROL)
    assert clock_times(control) == {number: [MONDAY_2] for number in range(AD_PARTITIONS)}
    assert progress.time_ms == MONDAY_2
    assert progress.records == {
        kafka.topic(USER_EVENTS): len(events),
        kafka.topic(ADS): len(ads),
        kafka.topic(ADS_CONTROL): len(control),
    }


async def test_the_next_stretch_goes_on_from_there_hour_by_hour(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    replay = Replay(kafka, publisher, recording)
    await replay.until(MONDAY_2)
    assert replay.time_ms == MONDAY_2
    await replay.until(MONDAY_3)
    events = await read_all(kafka, USER_EVENTS)
    ids = event_ids(events)
    assert len(ids) == len(set(ids)) == len(list(recording.events(0, MONDAY_3)))
    hours = list(range(MONDAY_2, MONDAY_3 + 1, HOUR_MS))
    clocks = clock_times(await read_all(kafka, ADS_CONTROL))
    assert clocks == dict.fromkeys(range(AD_PARTITIONS), hours)
    deleted = {record.key for record in await read_all(kafka, ADS) if record.value is None}
    changes = list(recording.ad_changes(MONDAY_3))
    assert deleted == {key for _, key, value, _ in changes if value is None}
    assert deleted


async def test_each_partition_has_its_users_events_in_order_of_time(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    replay = Replay(kafka, publisher, recording)
    await replay.until(MONDAY_2 + 30 * HOUR_MS)
    by_partition: defaultdict[int, list[Record]] = defaultdict(list)
    for record in await read_all(kafka, USER_EVENTS):
        by_partition[record.partition].append(record)
    assert len(by_partition) > 1
    for records in by_partition.values():
        assert all(a <= b for a, b in pairwise(event_times(records)))


async def test_no_event_is_written_more_than_an_hour_ahead_of_the_clock(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    """Readers refuse an event of the future: the clock that admits it must be there before it."""
    await Replay(kafka, publisher, recording).until(MONDAY_2 + 48 * HOUR_MS)
    clock_written_ms: dict[int, int] = {}
    for record in await read_all(kafka, ADS_CONTROL):
        if record.key == CLOCK_KEY:
            change = decode_control(record)
            assert isinstance(change, ClockTick)
            written = max(record.timestamp, clock_written_ms.get(change.time_ms, 0))
            clock_written_ms[change.time_ms] = written
    for record in await read_all(kafka, USER_EVENTS):
        (time_ms,) = event_times([record])
        admitting = max(MONDAY_2, time_ms // HOUR_MS * HOUR_MS)
        assert clock_written_ms[admitting] <= record.timestamp


async def test_pieces_of_any_length_bring_the_same_as_one(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    end_ms = MONDAY_2 + 5 * HOUR_MS
    replay = Replay(kafka, publisher, recording)
    # The second ends inside an hour, the third is empty.
    for time_ms in (MONDAY_2, MONDAY_2 + HOUR_MS + 1_234, MONDAY_2 + HOUR_MS + 1_234, end_ms):
        await replay.until(time_ms)
    whole = Kafka(kafka.bootstrap, f"{kafka.prefix}whole-")
    await create_missing(whole)
    await Replay(whole, publisher, Recording(whole, 2, 3)).until(end_ms)
    events, expected = [await read_all(k, USER_EVENTS) for k in (kafka, whole)]
    assert event_ids(events) == event_ids(expected)
    ads, expected = [await read_all(k, ADS) for k in (kafka, whole)]
    assert [(r.key, r.value) for r in ads] == [(r.key, r.value) for r in expected]
    hours = {MONDAY_2 + hour * HOUR_MS for hour in range(6)}
    for times in clock_times(await read_all(kafka, ADS_CONTROL)).values():
        assert times == sorted(times)
        assert hours <= set(times)


async def test_time_neither_goes_back_nor_leaves_the_recording(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    replay = Replay(kafka, publisher, recording)
    with pytest.raises(ValueError, match=str(recording.start_ms)):
        await replay.until(recording.start_ms - 1)
    await replay.until(MONDAY_2 + HOUR_MS)
    with pytest.raises(ValueError, match=str(MONDAY_2 + HOUR_MS)):
        await replay.until(MONDAY_2)
    with pytest.raises(ValueError, match=str(recording.end_ms)):
        await replay.until(recording.end_ms + 1)


async def test_speed_decides_how_long_the_paced_part_takes(
    kafka: Kafka, publisher: Publisher, recording: Recording
) -> None:
    """Never faster than asked; how much slower is the machine's affair."""
    replay = Replay(kafka, publisher, recording, speed=4 * 3600)
    await replay.until(MONDAY_2)
    arrivals: list[int] = []

    def report(progress: Progress) -> None:
        arrivals.append(progress.time_ms)

    progress = await replay.until(MONDAY_2 + 3 * HOUR_MS, report)
    assert progress.seconds >= 3 / 4
    # A tenth of a second is 24 simulated minutes; every full hour is also a stop.
    assert len(set(arrivals)) >= 8
    assert {MONDAY_2 + hour * HOUR_MS for hour in (1, 2, 3)} <= set(arrivals)


async def test_the_verb_publishes_into_topics_that_it_creates_with_as_many_ads_as_asked(
    kafka: Kafka,
) -> None:
    stretch = ["--from", "2", "--to", "2", "--until-ms", str(MONDAY_2), "--ads", "1500"]
    where = ["--bootstrap", kafka.bootstrap, "--prefix", kafka.prefix]
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "replay", *stretch, *where, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["time_ms"] == MONDAY_2
    expected = len(list(Recording(kafka, 2, 2).events(0, MONDAY_2)))
    assert printed["records"][kafka.topic(USER_EVENTS)] == expected
    assert len({record.key for record in await read_all(kafka, ADS)}) == 1_500


@pytest.mark.parametrize(
    ("arguments", "blamed"),
    [
        (["--from", "3", "--to", "2"], "--from, --to"),
        (["--from", "54"], "--from"),
        (["--until-ms", "5"], "--until-ms"),
        (["--speed", "0"], "--speed"),
    ],
)
def test_wrong_usage_of_the_verb_is_exit_code_2_and_named(
    arguments: list[str], blamed: str
) -> None:
    """Found before any broker is looked for."""
    app = typer.Typer()
    app.command()(replay_command)
    result = CliRunner().invoke(app, [*arguments, "--bootstrap", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert f"Invalid value for {blamed}" in result.output.replace("'", "")

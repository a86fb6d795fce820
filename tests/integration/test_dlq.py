"""`headwater dlq`: what was rejected can be seen, and its original is sent again, byte for byte."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from typer.testing import CliRunner

from daemon.cli import app
from stream import topics
from stream.checkpoint_topic import CheckpointWriter
from stream.checkpoints import Mark, write_checkpoint
from stream.cluster import look
from stream.deadletters import MAX_VALUE_BYTES, dead_letter
from stream.errors import Reason
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, USER_EVENTS

RUNNER = CliRunner()

HEADERS = [("trace", b"\x00\xff"), ("content-type", b"application/msgpack")]
ORIGINALS: list[tuple[bytes | None, bytes | None, Reason]] = [
    (b"7", b"{not json", Reason.UNDECODABLE),
    (b"8", b"\xff\x00", Reason.UNDECODABLE),
    (b"-1", b'{"version": 1}', Reason.BAD_KEY),
    (b"9", None, Reason.BAD_VERSION),
]


def command(kafka: Kafka, *arguments: str) -> list[str]:
    return ["dlq", *arguments, "--bootstrap", kafka.bootstrap, "--prefix", kafka.prefix]


def verb(kafka: Kafka, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The verb as a process of its own, with its exit code."""
    program = [sys.executable, "-m", "daemon", *command(kafka, *arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=60)


def run(kafka: Kafka, *arguments: str) -> Any:
    """What the verb prints with `--json`."""
    done = RUNNER.invoke(app, command(kafka, *arguments, "--json"), catch_exceptions=False)
    # Before it are lines of the log, which a process of its own writes elsewhere.
    return json.loads(done.stdout.splitlines()[-1])


def reject(
    kafka: Kafka,
    topic: str,
    *originals: tuple[bytes | None, bytes | None, Reason],
    source: str = "",
) -> None:
    """Dead letters as a worker would send them."""

    async def send() -> None:
        await topics.create_missing(kafka)
        async with Publisher(kafka) as publisher:
            letters = [
                dead_letter(message(kafka, topic, at, key, value), reason, f"detail {at}", source)
                for at, (key, value, reason) in enumerate(originals)
            ]
            await publisher.send_all(letters)

    asyncio.run(send())


def message(kafka: Kafka, topic: str, offset: int, key: bytes | None, value: bytes | None) -> Any:
    return ConsumerRecord(
        kafka.topic(topic), 2, offset, 1_000, 0, key, value, None, 0, 0, tuple(HEADERS)
    )


def records(kafka: Kafka, topic: str) -> list[Any]:
    async def read() -> list[Any]:
        found: list[Any] = []
        async with TopicReader(kafka, [kafka.topic(topic)]) as reader:
            wanted = sum((await reader.end_offsets())[kafka.topic(topic)].values())
            while len(found) < wanted:
                found += await reader.read(100)
        return found

    return asyncio.run(read())


def sent(replayed: int, **others: int) -> dict[str, int]:
    return {"replayed": replayed, "cut": 0, "erased": 0, "foreign": 0, **others}


@pytest.fixture
def rejected(kafka: Kafka) -> Kafka:
    reject(kafka, ADS, *ORIGINALS)
    reject(kafka, USER_EVENTS, (None, b"{}", Reason.NULL_KEY))
    return kafka


def test_a_list_says_what_was_rejected_where_from_and_why(rejected: Kafka) -> None:
    letters = run(rejected, "list")["letters"]
    assert [(each["topic"], each["offset"], each["reason"]) for each in letters] == [
        *((ADS, at, reason.value) for at, (_, _, reason) in enumerate(ORIGINALS)),
        (USER_EVENTS, 0, "null_key"),
    ]
    assert letters[1]["key"] == "8"
    assert letters[1]["detail"] == "detail 1"
    origin = {"topic": rejected.topic(ADS), "partition": "2", "offset": "1"}
    assert letters[1]["origin"] == origin
    assert letters[-1]["key"] is None


def test_a_list_can_be_of_one_topic_one_reason_and_the_newest(rejected: Kafka) -> None:
    def offsets(*arguments: str) -> list[int]:
        return [each["offset"] for each in run(rejected, "list", *arguments)["letters"]]

    assert offsets(ADS) == [0, 1, 2, 3]
    assert offsets(ADS, "--reason", "undecodable") == [0, 1]
    assert offsets(ADS, "--reason", "undecodable", "--limit", "1") == [1]
    assert offsets("ads-control") == []


def test_a_list_for_people_has_a_line_for_each(rejected: Kafka) -> None:
    stdout = verb(rejected, "list", ADS).stdout
    assert "bad_key: detail 2" in " ".join(stdout.split())


def test_one_letter_is_shown_whole_and_bytes_survive(rejected: Kafka) -> None:
    letter = run(rejected, "show", ADS, "1")
    assert letter["value"] == {"base64": "/wA="}
    assert letter["headers"] == [
        {"name": "trace", "value": {"base64": "AP8="}},
        {"name": "content-type", "value": "application/msgpack"},
    ]
    assert run(rejected, "show", ADS, "0")["value"] == "{not json"
    assert run(rejected, "show", ADS, "3")["value"] is None


def test_an_offset_without_a_letter_is_a_failure(rejected: Kafka) -> None:
    done = verb(rejected, "show", ADS, "77")
    assert done.returncode == 1
    assert "offset 77" in done.stderr


def test_a_topic_without_dead_letters_is_wrong_usage(kafka: Kafka) -> None:
    assert verb(kafka, "list", "workers").returncode == 2


def test_replayed_records_are_the_originals_and_the_letters_stay(rejected: Kafka) -> None:
    assert run(rejected, "replay", ADS) == sent(len(ORIGINALS))
    found = {(each.key, each.value) for each in records(rejected, ADS)}
    assert found == {(key, value) for key, value, _ in ORIGINALS}
    assert all(list(each.headers) == HEADERS for each in records(rejected, ADS))
    assert len(run(rejected, "list", ADS)["letters"]) == len(ORIGINALS)


def test_a_replay_can_be_of_some(rejected: Kafka) -> None:
    chosen = ["--offset", "0", "--offset", "2"]
    assert run(rejected, "replay", ADS, *chosen) == sent(2)
    assert {each.key for each in records(rejected, ADS)} == {b"7", b"-1"}
    assert run(rejected, "replay", ADS, "--reason", "null_value") == sent(0)


def test_a_replay_of_what_is_not_there_says_so(rejected: Kafka) -> None:
    """Not even a typo of an offset or a reason ends as if all were done."""
    done = RUNNER.invoke(app, command(rejected, "replay", ADS, "--offset", "0", "--offset", "99"))
    assert str(done.exception).startswith("ads: no dead letter has the offset 99; 1 others")
    assert RUNNER.invoke(app, command(rejected, "list", "--reason", "foo")).exit_code == 2
    listed = RUNNER.invoke(app, command(rejected, "list", ADS, "--reason", "null_key"))
    assert listed.stdout.splitlines()[-1] == "no dead letters"


def test_what_was_cut_is_not_sent_again_but_counted(kafka: Kafka) -> None:
    """Half a record is another record, or none."""
    whole = (b"7", b"{not json", Reason.UNDECODABLE)
    reject(kafka, ADS, (b"8", b"x" * (MAX_VALUE_BYTES + 1), Reason.UNDECODABLE), whole)
    assert run(kafka, "replay", ADS) == sent(1, cut=1)
    assert [each.key for each in records(kafka, ADS)] == [b"7"]
    cut = [each["cut_from_bytes"] for each in run(kafka, "list", ADS)["letters"]]
    assert cut == [str(MAX_VALUE_BYTES + 1), None]


def test_an_event_from_before_its_user_was_erased_is_not_sent_again(kafka: Kafka) -> None:
    reject(
        kafka,
        USER_EVENTS,
        (b"7", b"{}", Reason.INVALID_FIELD),
        (b"8", b"{}", Reason.INVALID_FIELD),
        (b"7", b"{1}", Reason.UNDECODABLE),
    )

    async def erase() -> None:
        writer = CheckpointWriter(kafka, 2)
        await writer.start()
        source = (await look(kafka, [USER_EVENTS])).source(kafka, USER_EVENTS)
        await writer.write(write_checkpoint(7, source, 2, [], 1), Mark(source, 2))
        await writer.stop()

    asyncio.run(erase())
    assert run(kafka, "replay", USER_EVENTS) == sent(2, erased=1)
    assert {(each.key, each.value) for each in records(kafka, USER_EVENTS)} == {
        (b"8", b"{}"),
        (b"7", b"{1}"),
    }


def test_an_event_of_a_user_events_that_is_no_more_is_not_sent_again(kafka: Kafka) -> None:
    """Whether its user was erased was written in offsets of that topic."""
    reject(kafka, USER_EVENTS, (b"7", b"{}", Reason.INVALID_FIELD), source="cluster topic old-id")
    assert run(kafka, "replay", USER_EVENTS) == sent(0, foreign=1)

"""The local Kafka: it outlives its starter, and keeps port and data over stops and kills."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.broker import Broker, BrokerFailed
from stream.jars import ToolMissing, install_jars, java

ROOT = Path(__file__).resolve().parents[2]

START = """
import sys
from pathlib import Path
from stream.broker import Broker

print(Broker(Path(sys.argv[1]), lib=Path(sys.argv[2])).start())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path) -> Iterator[Path]:
    """A broker's folder that the tests of this file share; the broker ends with them."""
    home = tmp_path_factory.mktemp("broker") / "kafka"
    home.mkdir()
    # Where the verbs look for them.
    (home / "lib").symlink_to(kafka_jars)
    yield home
    Broker(home, lib=kafka_jars).stop()


@pytest.fixture
def broker(home: Path, kafka_jars: Path) -> Broker:
    broker = Broker(home, lib=kafka_jars)
    broker.start()
    return broker


def test_broker_outlives_the_process_that_started_it(home: Path, kafka_jars: Path) -> None:
    starter = subprocess.run(
        [sys.executable, "-c", START, str(home), str(kafka_jars)],
        capture_output=True,
        text=True,
        check=True,
    )

    status = Broker(home, lib=kafka_jars).status()
    assert status.ready
    assert starter.stdout.splitlines()[-1] == status.bootstrap


def test_second_start_finds_the_running_broker(broker: Broker) -> None:
    first = broker.status()

    assert broker.start() == first.bootstrap
    assert broker.status() == first


async def test_killed_broker_comes_back_with_port_and_acknowledged_records(
    broker: Broker, prefix: str
) -> None:
    before = broker.status()
    assert before.pid is not None
    await _write(broker.start(), prefix + "kept", b"before the kill")

    os.kill(before.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while broker.status().running:
        assert time.monotonic() < deadline

    assert broker.start() == before.bootstrap
    after = broker.status()
    assert after.pid != before.pid
    assert after.cluster_id == before.cluster_id
    assert await _first(broker.start(), prefix + "kept") == b"before the kill"


def test_stopped_broker_is_gone_and_starts_again_where_it_was(broker: Broker) -> None:
    running = broker.status()

    assert broker.stop()
    stopped = broker.status()
    assert not stopped.running
    assert stopped.bootstrap is not None
    host, _, port = stopped.bootstrap.partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)
    assert not broker.stop()

    assert broker.start() == running.bootstrap


def test_pid_that_now_belongs_to_another_process_is_not_taken_for_the_broker(
    broker: Broker, home: Path
) -> None:
    broker.stop()
    state = home / "broker.json"
    state.write_text(state.read_text().replace("null", str(os.getpid())))

    assert not broker.status().running
    assert not broker.stop()  # above all: this process is not ended
    assert broker.start()


def test_broker_that_cannot_start_says_why(broker: Broker) -> None:
    broker.stop()
    bootstrap = broker.status().bootstrap
    assert bootstrap is not None
    host, _, port = bootstrap.partition(":")

    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, int(port)))
        holder.listen()
        with pytest.raises(BrokerFailed, match=rf"(?s)broker\.log:.*{port}.*in use"):
            broker.start()
        assert not broker.status().running

    assert broker.start() == bootstrap


def test_the_verbs_start_tell_and_stop(broker: Broker, home: Path) -> None:
    def verb(name: str) -> tuple[int, dict[str, Any]]:
        state = f"worker.state_dir={home.parent}"
        done = subprocess.run(
            [sys.executable, "-m", "daemon", "broker", name, "--set", state, "--json"],
            capture_output=True,
            text=True,
        )
        return done.returncode, json.loads(done.stdout)

    bootstrap = broker.status().bootstrap
    assert verb("start") == (0, {"bootstrap": bootstrap})
    code, running = verb("status")
    assert (code, running["ready"], running["bootstrap"]) == (0, True, bootstrap)
    assert verb("stop") == (0, {"stopped": True})
    code, stopped = verb("status")
    assert (code, stopped["running"]) == (1, False)


def test_installed_jars_are_not_fetched_again(
    kafka_jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_jars(kafka_jars)
    monkeypatch.setenv("PATH", "")  # no Maven to be found

    assert install_jars(kafka_jars) == kafka_jars


def test_missing_java_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolMissing, match="apt-get install default-jre-headless maven"):
        java()


def test_set_up_without_java_or_maven_ends_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "kafka" / "install.py", tmp_path / "lib"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "install Java 17 or newer and Maven" in done.stderr


def test_missing_maven_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolMissing, match="apt-get install default-jre-headless maven"):
        install_jars(tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


@pytest.mark.parametrize("version", ["11.0.22", "1.8.0_392"])
def test_old_java_is_refused(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = tmp_path / "java"
    executable.write_text(f"""#!/bin/sh\necho 'openjdk version "{version}"' >&2\n""")
    executable.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolMissing, match="Java 17 or newer"):
        java()


async def _write(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _first(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        message = await consumer.getone()
        return message.value

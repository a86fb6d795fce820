"""A Kafka of one node on this machine.

Owns one folder: Kafka's jars, data and log, and broker.json with the ports and the process id.
Promises a real Apache Kafka in KRaft mode on loopback that outlives whoever started it, keeps its
ports and data over stops and kills, and is found again by any process that opens the same folder.
Topics are stream.topics' part.
"""

import base64
import os
import random
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import msgspec
import structlog

from .errors import StreamError
from .jars import POM, install_jars, java, locked

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
PROPERTIES = POM.with_name("server.properties")

# Below the range that Linux takes client ports from (32768 up). A client that keeps knocking at a
# stopped broker's port could otherwise be given that very port and connect to itself.
PORTS = range(20_000, 32_000)

# 2-4 s on an idle machine; the rest is for busy ones.
START_DEADLINE_S = 90.0
# Kafka flushes and closes its segments before it exits.
STOP_DEADLINE_S = 30.0
POLL_S = 0.05

JVM_OPTIONS = (
    *("-Xms512m", "-Xmx512m"),
    *(
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
    ),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)

# The shell starts Java in the background and leaves, so that Java is nobody's child: the same
# whether a command line or a test starts it, and no exit, Ctrl-C or hang-up reaches it.
DETACH = '"$@" </dev/null >>"$LOG" 2>&1 & echo $!'


class BrokerFailed(StreamError):
    """The broker did not start or stop; the message has the end of its log."""

    retriable = False


class _State(msgspec.Struct, frozen=True):
    """broker.json. `pid` None: stopped."""

    port: int
    controller_port: int
    pid: int | None = None


@dataclass(frozen=True)
class BrokerStatus:
    """What `headwater broker status` shows. `ready`: it answers requests, not only runs."""

    running: bool
    ready: bool
    pid: int | None
    bootstrap: str | None
    cluster_id: str | None
    home: Path


class Broker:
    """The Kafka that lives in `home`.

    Args:
        home: folder of its own, made when needed.
        lib: folder of Kafka's jars, filled when needed; by default `home`/lib.
        more_properties: lines after those of server.properties, over which they win; they may use
            its placeholders.
        users: password by name, with which clients get in by SCRAM, where a listener asks for it;
            they are made with the data folder.
    """

    def __init__(
        self,
        home: Path,
        lib: Path | None = None,
        *,
        more_properties: str = "",
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.absolute()
        self._lib = lib.absolute() if lib else self.home / "lib"
        self._more_properties = more_properties
        self._users = users or {}
        self._data = self.home / "data"
        self._properties = self.home / "server.properties"
        self._state_file = self.home / "broker.json"
        self._lock_file = self.home / ".lock"
        self._log_file = self.home / "broker.log"

    def start(self) -> str:
        """Start it unless it runs; return its bootstrap address once it answers.

        Raises:
            ToolMissing, JarsUnavailable: see stream.jars.
            BrokerFailed: it exited or did not answer in time.
        """
        with locked(self._lock_file):
            state = self._read_state() or _State(*_free_ports(2))
            if not self._runs(state.pid):
                install_jars(self._lib)
                self._write_state(state)
                self._format(state)
                state = msgspec.structs.replace(state, pid=self._spawn())
                self._write_state(state)
            self._await_answer(state)
        return f"{HOST}:{state.port}"

    def stop(self) -> bool:
        """Stop it and wait until it is gone; False if it did not run."""
        with locked(self._lock_file):
            state = self._read_state()
            if state is None or state.pid is None:
                return False
            ran = self._runs(state.pid)
            if ran:
                self._end(state.pid)
            self._write_state(msgspec.structs.replace(state, pid=None))
        return ran

    def status(self) -> BrokerStatus:
        """What there is right now; waits for nothing."""
        state = self._read_state()
        running = state is not None and self._runs(state.pid)
        return BrokerStatus(
            running=running,
            ready=state is not None and running and _answers(state.port),
            pid=state.pid if state is not None and running else None,
            bootstrap=f"{HOST}:{state.port}" if state is not None else None,
            cluster_id=self._cluster_id(),
            home=self.home,
        )

    def _format(self, state: _State) -> None:
        """Write the properties, and lay out an empty data folder the first time."""
        text = Template(PROPERTIES.read_text() + self._more_properties).substitute(
            port=state.port, controller_port=state.controller_port, data=self._data
        )
        self._properties.write_text(text)
        if self._cluster_id() is not None:
            return
        # Kafka's own form of a random id: 16 bytes, base64url. A leading "-" would be an option.
        cluster_id = "H" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        done = subprocess.run(
            [
                *self._java("kafka.tools.StorageTool", "format", "--standalone"),
                *("-t", cluster_id, "-c", str(self._properties)),
                *self._scram(),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BrokerFailed(f"{self._data}: Kafka could not format it: {done.stderr[-1000:]}")

    def _scram(self) -> Iterator[str]:
        for name, password in self._users.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                yield "--add-scram"
                yield f"{mechanism}=[name={name},password={password}]"

    def _spawn(self) -> int:
        started = subprocess.run(
            ["/bin/sh", "-c", DETACH, "sh", *self._java("kafka.Kafka", str(self._properties))],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            start_new_session=True,
            cwd=self.home,
            env={**os.environ, "LOG": str(self._log_file)},
        )
        pid = int(started.stdout)
        log.info("broker_started", pid=pid, home=str(self.home))
        return pid

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [java(), *JVM_OPTIONS, "-cp", f"{self._lib}/*", main, *arguments]

    def _await_answer(self, state: _State) -> None:
        ready = _wait_until(
            lambda: _answers(state.port) or not self._runs(state.pid), START_DEADLINE_S
        )
        if not self._runs(state.pid):
            raise BrokerFailed(f"Kafka exited while starting; {self._log_tail()}")
        if not ready:
            raise BrokerFailed(
                f"Kafka (pid {state.pid}) did not answer on {HOST}:{state.port} within "
                f"{START_DEADLINE_S:.0f} s; {self._log_tail()}"
            )

    def _end(self, pid: int) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if _wait_until(lambda: _has_ended(pid), STOP_DEADLINE_S):
                log.info("broker_stopped", pid=pid, signal=number.name)
                return
        raise BrokerFailed(f"Kafka (pid {pid}) does not end, even when killed")

    def _runs(self, pid: int | None) -> bool:
        """Whether `pid` is this folder's broker: process ids are reused, command lines are not."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self._properties) in words

    def _cluster_id(self) -> str | None:
        try:
            lines = (self._data / "meta.properties").read_text().splitlines()
        except FileNotFoundError:
            return None
        return dict(line.partition("=")[::2] for line in lines).get("cluster.id")

    def _read_state(self) -> _State | None:
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise BrokerFailed(
                f"{self._state_file}: {error}; end the Kafka of this folder, then delete the file"
            ) from error

    def _write_state(self, state: _State) -> None:
        partial = self._state_file.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(state))
        partial.replace(self._state_file)

    def _log_tail(self) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()
        told = [line for line in lines if not line.startswith("\tat ")]  # not where in Kafka
        return "\n".join([f"the end of {self._log_file}:", *told[-10:]])


def _has_ended(pid: int) -> bool:
    """Whether `pid` holds no port and no file any more; its parent may not have noticed yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    state = stat.rpartition(b")")[2].split()[0]
    return state in (b"Z", b"X")


def _answers(port: int) -> bool:
    """Whether a Kafka answers there. A fresh broker accepts connections before it serves them."""
    # ApiVersions v0: length, api key 18, version 0, correlation id, no client id.
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(request)
            return len(connection.recv(4)) == 4
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise BrokerFailed(f"no free port from {PORTS.start} to {PORTS.stop}; end what holds them")


def _wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True

"""A worker as a process of its own, as an operator would run it.

Owns the process that it started: its configuration, its start, its address, its end. Promises that
its log stays in a file, and that it is ended when its owner asks.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stream.settings import Kafka

from .client import WorkerClient
from .failure import Failed

# The first start compiles the kernels.
START_DEADLINE_S = 300.0
# What orchestrators wait by default before they kill.
STOP_DEADLINE_S = 30.0
POLL_S = 0.02


def write_config(
    path: Path,
    kafka: Kafka,
    worker_id: str,
    state_dir: Path,
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Path:
    """Write the configuration of a worker for `WorkerProcess`: it picks a port, and logs JSON.

    Args:
        path: the file.
        kafka: bootstrap and prefix.
        worker_id, state_dir: the worker's settings of these names.
        more: settings by section and key; they are text, numbers or booleans.

    Returns:
        The file.
    """
    own = {"id": worker_id, "state_dir": str(state_dir), "port": 0, "log_format": "json"}
    tables: dict[str, Mapping[str, Any]] = {
        "kafka": {"bootstrap": kafka.bootstrap, "prefix": kafka.prefix},
        "worker": own,
    }
    for name, settings in more.items():
        tables[name] = {**tables.get(name, {}), **settings}
    lines: list[str] = []
    for name, settings in tables.items():
        # TOML writes text, numbers and booleans as JSON does.
        lines += [f"[{name}]", *(f"{key} = {json.dumps(settings[key])}" for key in settings), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class WorkerProcess:
    """`headwater serve` with a configuration file: started, killed, started again.

    Args:
        config: the file, as `write_config` writes it.
        log: where its output goes.
        program: what Python runs, in place of the package.
    """

    def __init__(self, config: Path, log: Path, program: Sequence[str] = ("-m", "daemon")) -> None:
        self._config = config
        self._program = program
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the worker that was started last."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> str:
        """Start it and return its URL as soon as it listens."""
        seen = self._log.stat().st_size if self._log.exists() else 0
        command = (sys.executable, *self._program, "serve", "--config", str(self._config))
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the owner, who ends the worker.
            # Not asyncio's: that would kill the process when the owner's event loop is gone.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while (url := self._listens_at(seen)) is None:
            await self._wait(deadline)
        return url

    async def wait_ready(self, client: WorkerClient) -> float:
        """Wait until it takes requests; returns the seconds since the call."""
        began = time.monotonic()
        # Not /v1/status, which goes through all ads to count them: the start would be slower.
        while (await client.text("/readyz")).strip() != "ready":
            await self._wait(began + START_DEADLINE_S)
        return time.monotonic() - began

    async def ended(self, deadline_s: float) -> int:
        """Wait until it has ended on its own; returns its exit code.

        Raises:
            Failed: it goes on.
        """
        try:
            return await asyncio.to_thread(self._running().wait, deadline_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"the worker goes on; its log: {self._log}") from None

    async def kill(self) -> None:
        """End it the hard way (SIGKILL)."""
        process = self._running()
        process.kill()
        await asyncio.to_thread(process.wait)

    async def stop(self) -> int:
        """End it the soft way (SIGTERM), if it runs; returns its exit code."""
        process = self._process
        if process is None:
            return 0
        process.terminate()
        try:
            return await asyncio.to_thread(process.wait, STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            await self.kill()
            raise Failed(f"the worker did not stop in {STOP_DEADLINE_S} s; {self._log}") from None

    def resident_mb(self) -> float:
        """Resident memory, MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start the worker first"
        return self._process

    def _listens_at(self, seen: int) -> str | None:
        """The address in the part of the log that this start wrote."""
        for line in self._log.read_bytes()[seen:].splitlines():
            if b'"http_listening"' in line and line.endswith(b"}"):
                return str(json.loads(line)["url"])
        return None

    async def _wait(self, deadline: float) -> None:
        """Let a moment pass, unless the worker has ended or time is up."""
        code = self._running().poll()
        if code is not None:
            raise Failed(f"the worker ended with exit code {code}; its log: {self._log}")
        if time.monotonic() > deadline:
            raise Failed(f"the worker is not ready in {START_DEADLINE_S} s; its log: {self._log}")
        await asyncio.sleep(POLL_S)

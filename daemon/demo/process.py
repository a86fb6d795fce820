"""A worker as a process of its own, as an operator would run it.

Owns the process that it started: its start, its address, its end. Promises that nothing of it
outlives its owner, and that its log stays in a file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ..commands.failure import Failed

START_DEADLINE_S = 300.0
STOP_DEADLINE_S = 60.0


class WorkerProcess:
    """`headwater serve` with a configuration file, started, killed and started again."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """Process id of the running worker."""
        if self._process is None:
            raise Failed("the worker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens."""
        seen = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "serve", "--config", str(self._config)],
                stderr=log,
                stdout=log,
                # A Ctrl-C in the terminal is for the demo, which ends the worker itself.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not (url := self._listening(seen)):
            self._check(deadline)
            time.sleep(0.02)
        self.url = url

    def wait_ready(self) -> float:
        """Wait until it takes requests; returns the seconds that took."""
        began = time.monotonic()
        while not self.get("/v1/status")["ready"]:
            self._check(began + START_DEADLINE_S)
            time.sleep(0.02)
        return time.monotonic() - began

    def kill(self) -> None:
        """End it the hard way (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it the soft way (SIGTERM); returns its exit code."""
        return self._end(signal.SIGTERM)

    def get(self, path: str) -> dict[str, Any]:
        """GET a JSON object."""
        return _json(Request(self.url + path))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST a JSON object and read the one that answers."""
        return _json(Request(self.url + path, json.dumps(body).encode(), method="POST"))

    def text(self, path: str) -> str:
        """GET a page as text."""
        with urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def resident_mb(self) -> float:
        """Resident memory, MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise Failed(f"no memory figure for process {self.pid}")

    def _listening(self, seen: int) -> str | None:
        text = self._log.read_bytes()[seen:].decode(errors="replace")
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") == "http_listening":
                return str(event["url"])
        return None

    def _check(self, deadline: float) -> None:
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise Failed(f"the worker ended with exit code {code}; its log: {self._log}")
        if time.monotonic() > deadline:
            raise Failed(f"the worker is not ready in {START_DEADLINE_S} s; its log: {self._log}")

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.poll() is None:
            os.kill(process.pid, number)
        try:
            return process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"the worker did not stop in {STOP_DEADLINE_S} s; {self._log}") from None


def _json(request: Request) -> dict[str, Any]:
    try:
        with urlopen(request, timeout=60) as answer:
            body = answer.read()
    except HTTPError as error:
        body = error.read()
    except URLError as error:
        raise Failed(f"{request.full_url}: {error.reason}") from None
    parsed: dict[str, Any] = json.loads(body)
    return parsed

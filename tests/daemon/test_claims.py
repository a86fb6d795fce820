"""A worker's folder and port are its own, or it does not start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.claims import Claims
from daemon.settings import ConfigurationError, Settings

NO_KAFKA = "127.0.0.1:1"


def settings(folder: Path, port: int = 0) -> Settings:
    return Settings(worker={"state_dir": folder, "port": port})


def test_a_second_worker_on_one_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    first = Claims.take(settings(tmp_path))
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()} on ") as refused:
        Claims.take(settings(tmp_path))
    assert str(tmp_path / "worker-0") in str(refused.value)
    first.lock.close()
    Claims.take(settings(tmp_path)).listener.close()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"worker\.state_dir = .*: Not a directory"):
        Claims.take(settings(tmp_path / "file"))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"worker.port = {port}: .* in use"):
            Claims.take(settings(tmp_path, port))


@pytest.mark.parametrize("taken", ["folder", "port"])
def test_serve_ends_with_code_2_before_it_asks_kafka(tmp_path: Path, taken: str) -> None:
    """There is no Kafka here: without the claim the exit code would be 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1] if taken == "port" else 0
        claims = Claims.take(settings(tmp_path)) if taken == "folder" else None
        words = ("--bootstrap", NO_KAFKA, "--set", f"worker.port={port}")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "daemon",
                "serve",
                "--set",
                f"worker.state_dir={tmp_path}",
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if claims is not None:
            claims.lock.close()
    assert done.returncode == 2
    assert ("in use by process" if taken == "folder" else str(port)) in done.stderr

"""What a worker must have for itself on its machine: its folder and its port.

Owns the lock on the folder and the socket of the HTTP server, from before anything that takes long
until the process ends, however it ends. Promises that a second worker is refused at once, before it
has touched anything, and told who is in its way.
"""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from .settings import ConfigurationError, Settings, WorkerSection

LOCK = "worker.lock"


@dataclass(frozen=True)
class Claims:
    """Held as long as this object lives."""

    lock: TextIO
    listener: socket.socket

    @classmethod
    def take(cls, settings: Settings) -> Claims:
        """Claim the folder and the port.

        Raises:
            ConfigurationError: another process has one of them, or the folder cannot be made.
        """
        return cls(_lock(settings), _listen(settings.worker))


def _lock(settings: Settings) -> TextIO:
    path = settings.worker_folder / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ConfigurationError(
            f"worker.state_dir = {settings.worker.state_dir}: {path}: {error.strerror}"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ConfigurationError(
            f"{path.parent} is in use by {holder}; stop that worker, or give this one another "
            "worker.id"
        ) from None
    file.truncate(0)
    since = datetime.now(UTC).isoformat(" ", "seconds")
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
    file.flush()
    return file


def _listen(worker: WorkerSection) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            worker.host or None, worker.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        raise ConfigurationError(
            f"worker.host = {worker.host}, worker.port = {worker.port}: {error.strerror}; "
            "choose another port, 0 picks a free one"
        ) from None

"""`headwater serve`: run a worker in the foreground."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from stream.errors import StreamError

from .. import environment
from ..logs import configure_logging
from ..settings import ConfigurationError
from . import options

if TYPE_CHECKING:
    from ..worker import Worker


def serve(
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
) -> None:
    """Run a worker until SIGTERM: read Kafka, answer requests, export metrics."""
    settings = options.settings(config, assignments, bootstrap, prefix)
    environment.prepare(settings.worker)
    configure_logging(settings.worker.log_level, settings.worker.log_format)
    # Compiles and loads the numeric libraries, which must find the environment prepared.

    from ..worker import Worker

    try:
        asyncio.run(_live(Worker(settings)))
    except ExceptionGroup as group:
        raise _expected(group) or group from None


async def _live(worker: Worker) -> NoReturn:
    """Run the worker to its end and leave at once.

    All that it owns is closed and durable then. A thread of Faust's may still be waiting for a
    broker that is gone, and Python would wait for that thread.
    """
    await worker.run()
    sys.stderr.flush()
    os._exit(0)


def _expected(group: ExceptionGroup[Exception]) -> Exception | None:
    """The failure behind a part that died, if it is one that tells the operator what to do."""
    for error in group.exceptions:
        if isinstance(error, ConfigurationError | StreamError):
            return error
        if isinstance(error, ExceptionGroup) and (inner := _expected(error)):
            return inner
    return None

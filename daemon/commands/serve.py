"""`headwater serve`: run a worker in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from .. import environment
from ..claims import Claims
from ..failure import EXPECTED, report
from ..logs import configure_logging
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
    # Until the worker lives there is nothing to be ended in order.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    claims = Claims.take(settings)
    # Compiles and loads the numeric libraries, which must find the environment prepared.
    from ..worker import Worker

    asyncio.run(_live(Worker(settings, claims.listener)))


async def _live(worker: Worker) -> NoReturn:
    """Run the worker to its end and leave at once.

    All that it owns is closed and durable then. A thread of Faust's may still be waiting for a
    broker that is gone, and Python would wait for that thread.
    """
    code = 0
    try:
        await worker.run()
    except Exception as error:
        code = report(_expected(error) or error)
    sys.stderr.flush()
    os._exit(code)


def _expected(error: BaseException) -> BaseException | None:
    """The failure behind a part that died, if it is one that tells the operator what to do."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_expected, error.exceptions)), None)
    return error if isinstance(error, EXPECTED) else None

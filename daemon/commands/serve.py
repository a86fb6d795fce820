"""`headwater serve`: run a worker in the foreground."""

from __future__ import annotations

import asyncio
import os
import sys

from ..logs import configure_logging
from ..settings import ConfigurationError, Settings
from . import options

# glibc returns every temporary over 32 MB to the system and faults it in again, which makes eager
# torch several times slower; these keep such memory in the process.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def serve(
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
) -> None:
    """Run a worker until SIGTERM: read Kafka, answer requests, export metrics."""
    settings = options.settings(config, assignments, bootstrap, prefix)
    _prepare_process(settings)
    configure_logging(settings.worker.log_level, settings.worker.log_format)
    # Compiles and loads the numeric libraries, which must find the environment prepared.
    from ..worker import Worker

    try:
        asyncio.run(Worker(settings).run())
    except* ConfigurationError as errors:
        raise ConfigurationError(str(errors.exceptions[0])) from None


def _prepare_process(settings: Settings) -> None:
    """Set what libraries read once, when they are loaded, by starting this process anew.

    Same process id, same arguments: whoever started the worker does not notice.
    """
    threads = str(settings.worker.threads)
    wanted = {
        **_MALLOC,
        "OMP_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
        "NUMBA_CACHE_DIR": str((settings.worker.state_dir / "numba").resolve()),
    }
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})

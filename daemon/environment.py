"""What libraries read once, when they are loaded: threads, caches, the allocator.

Owns the environment variables that a worker and a training run need. Promises that a command goes
on as the same process, with the same arguments, whatever it was started with.
"""

from __future__ import annotations

import os
import sys

from .settings import WorkerSection

# glibc returns every temporary over 32 MB to the system and faults it in again, which makes eager
# torch several times slower; these keep such memory in the process.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def prepare(worker: WorkerSection) -> None:
    """Set it by starting this process anew, unless it is set. Threads are the setting's alone.

    OpenMP threads that wait for each other spin, so more of them than free cores is slower than
    one: one is the default, also for training.
    """
    threads = str(worker.threads)
    cache = str((worker.state_dir / "numba").resolve())
    wanted = {
        **_MALLOC,
        "NUMBA_CACHE_DIR": cache,
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
    }
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)

"""The watchdog in a process of its own, which is stopped, or holds Python's lock for good."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

PROGRAM = """
import asyncio, ctypes, sys
from daemon import watchdog
from daemon.grace import Grace
from daemon.settings import WatchdogSection
from monitoring.health import Readiness

watchdog.ASLEEP_S = 1.0

async def main() -> None:
    limits = WatchdogSection(event_loop_s=1.0, exit_after_s=float(sys.argv[1]))
    readiness = Readiness([watchdog.CONDITION])
    running = asyncio.create_task(watchdog.Watchdog([], limits, readiness, Grace(1.0)).run())
    await asyncio.sleep(0.5)
    print("up", flush=True)
    if sys.argv[2] == "hold":
        # Through PyDLL a call keeps Python's lock: no other thread runs.
        ctypes.PyDLL(None).sleep(60)
    await asyncio.sleep(4)
    print("ends by itself")

asyncio.run(main())
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_call_that_never_gives_pythons_lock_back_ends_the_process_with_its_stacks() -> None:
    process = started("0.5", "hold")
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "most recent call first" in told
    assert "in main" in told


def test_a_process_that_was_stopped_is_not_blamed_for_it() -> None:
    process = started("20", "sleep")
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    printed, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert printed == "ends by itself\n"
    assert "stalled" not in told + printed

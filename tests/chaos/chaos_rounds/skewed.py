"""`headwater` with a clock that can be set wrong while it runs.

The first argument names a file that holds how many seconds the clock is ahead;
SIGUSR2 has it read again.
"""

import signal
import sys
import time
from pathlib import Path
from types import FrameType

_file = Path(sys.argv.pop(1))
_skew_ns = 0
_time_ns = time.time_ns


def _read(_signal: int, _frame: FrameType | None) -> None:
    global _skew_ns
    _skew_ns = int(float(_file.read_text()) * 1e9)


def _skewed_ns() -> int:
    return _time_ns() + _skew_ns


if __name__ == "__main__":
    _read(0, None)
    time.time_ns = _skewed_ns
    time.time = lambda: _skewed_ns() / 1e9
    from daemon.cli import main

    signal.signal(signal.SIGUSR2, _read)
    main()

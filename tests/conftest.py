"""What every test run has in common: one thread per library, one kernel cache.

Set before the first test module imports NumPy, Numba or torch, which read
these variables once. A value from outside wins.
"""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
# Compiled kernels outlive a run; without a writable folder Numba refuses to
# cache, as under a read-only checkout, and every run would compile anew.
os.environ.setdefault("NUMBA_CACHE_DIR", str(_REPOSITORY / ".headwater" / "numba"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--twins",
        choices=("cpu", "simulator", "cuda"),
        default="cpu",
        help="which side of the index's kernel operations tests/parity runs",
    )

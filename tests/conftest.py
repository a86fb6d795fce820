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
        help="which side of the index's kernel operations tests/parity runs, and on a GPU "
        "(cuda) where the indexes of tests/gpuindex search",
    )


@pytest.fixture(scope="session")
def search_device(request: pytest.FixtureRequest) -> str:
    """Where indexes of this run search; without the GPU it asks for a skip or a failure."""
    if request.config.getoption("--twins") != "cuda":
        return "cpu"
    from gpuindex.device import choice

    if reason := choice.missing():
        if os.environ.get("REQUIRE_CUDA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return "cuda"

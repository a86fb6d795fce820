"""What an index runs on is what was asked for and can be, or a reason why not."""

import subprocess
import sys

import pytest

from gpuindex import DeviceUnusable
from gpuindex.device import choice


def test_the_cpu_is_had_without_asking_for_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "DRIVER", "no such library")
    assert choice.chosen("cpu") == "cpu"


def test_without_a_driver_auto_is_the_cpu_and_cuda_says_what_is_missing_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "DRIVER", "libthatnobodyhas.so.1")
    assert choice.chosen("auto") == "cpu"
    with pytest.raises(DeviceUnusable, match=r"no NVIDIA driver \(libthatnobodyhas.*install"):
        choice.chosen("cuda")


def test_auto_takes_a_device_exactly_if_nothing_is_missing() -> None:
    """Whatever this machine has."""
    assert (choice.chosen("auto") == "cuda") == (choice.missing() is None)


def test_an_index_on_the_cpu_loads_no_cuda() -> None:
    """Which takes a second, and is not installed everywhere."""
    program = """
import sys
from gpuindex import Index, IndexSettings
from gpuindex.device import choice
choice.chosen("auto")
Index(IndexSettings(embedding_width=1, payload_width=0))
assert not {"cupy", "numba.cuda"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

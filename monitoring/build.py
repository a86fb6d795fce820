"""What a worker runs on: the labels of `headwater_build_info`.

Owns how the versions are found: from the installed distributions, so that
asking loads no library. Which device is used is the caller's knowledge.
"""

import platform
from importlib.metadata import PackageNotFoundError, version

from .metrics import BUILD_INFO


def record_build(device: str) -> None:
    """Publish the versions and the device as `headwater_build_info`.

    Args:
        device: what scores, such as "cpu" or "cuda:0".
    """
    BUILD_INFO.info(
        {
            "version": _installed("headwater"),
            "python": platform.python_version(),
            "numba": _installed("numba"),
            "torch": _installed("torch"),
            "device": device,
        }
    )


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"

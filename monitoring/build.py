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
            "version": installed_version("headwater"),
            "python": platform.python_version(),
            "numba": installed_version("numba"),
            "torch": installed_version("torch"),
            "device": device,
        }
    )


def installed_version(distribution: str) -> str:
    """The version of an installed distribution; "none" if it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"

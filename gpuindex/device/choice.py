"""Which device an index is to use, and what keeps it from one.

Asking costs nothing where there is no GPU: the driver is asked first, through
its own library, and CuPy and Numba's CUDA are only imported once a device is
known to be there.
"""

import ctypes
from importlib.util import find_spec
from typing import Literal

from ..errors import DeviceUnusable

DeviceKind = Literal["cpu", "cuda"]

DRIVER = "libcuda.so.1"
# What the libraries of the extra "gpu" are made for: CUDA 13, and Turing's warp operations.
LEAST_CUDA = (13, 0)
LEAST_CAPABILITY = (7, 5)
# The driver's numbers for the two halves of the compute capability.
MAJOR, MINOR = 75, 76
PACKAGES = {"cupy": "CuPy", "numba_cuda": "numba-cuda"}


def chosen(wanted: Literal["auto", "cpu", "cuda"]) -> DeviceKind:
    """The device to use.

    Args:
        wanted: "auto" takes a CUDA device if there is one that can be used.

    Raises:
        DeviceUnusable: "cuda" is wanted, and something is missing for it.
    """
    if wanted == "cpu":
        return "cpu"
    reason = missing()
    if reason is None:
        return "cuda"
    if wanted == "cuda":
        raise DeviceUnusable(reason)
    return "cpu"


def missing() -> str | None:
    """What is missing for a CUDA device to be used, and what to do; None if nothing is."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return (
            f"no NVIDIA driver ({DRIVER}) on this machine; install one, "
            "or in a container give it the GPUs (docker run --gpus all)"
        )
    count, version = ctypes.c_int(), ctypes.c_int()
    if code := driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the driver finds no device (CUDA error {code}); see what nvidia-smi says"
    if not count.value:
        return "the driver shows no device; is CUDA_VISIBLE_DEVICES empty?"
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda = version.value // 1_000, version.value % 1_000 // 10
    if cuda < LEAST_CUDA:
        return _too_old("the driver is for CUDA", cuda, LEAST_CUDA, "install a newer driver")
    capability = _attribute(driver, MAJOR), _attribute(driver, MINOR)
    if capability < LEAST_CAPABILITY:
        return _too_old(
            "the device has compute capability", capability, LEAST_CAPABILITY, "use another one"
        )
    for package, name in PACKAGES.items():
        if find_spec(package) is None:
            return f'{name} is not installed; install the extra "gpu"'
    return None


def _too_old(what: str, has: tuple[int, int], needs: tuple[int, int], remedy: str) -> str:
    return f"{what} {has[0]}.{has[1]}, and {needs[0]}.{needs[1]} is needed; {remedy}"


def _attribute(driver: ctypes.CDLL, attribute: int) -> int:
    """A number that the driver tells of its first device."""
    device, value = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value

"""Device: where a run computes, and in which precision.

Owns the choice of CUDA where there is one. Promises that on a CPU nothing is converted and nothing
is copied. Checkpoints do not depend on it: weights stay float32.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def pick_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on CUDA, full precision elsewhere.

    bfloat16 has float32's range, so that no loss has to be scaled.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def to_device(value: T, device: torch.device) -> T:
    """A dataclass with all its tensors on a device; what is there already is not copied."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is no dataclass")
    moved = {field.name: _moved(getattr(value, field.name), device) for field in fields(value)}
    moved_value: T = replace(value, **moved)
    return moved_value


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return to_device(value, device)
    return value

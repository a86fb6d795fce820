"""State: a training run between two steps, as one file.

Owns the file: tensors by safetensors, and how they hang together as JSON beside them. Promises that
a file is whole or not there, that nothing in it can run code, and that a tree read back equals the
one written, bit for bit. What a run needs to remember is `run`'s affair.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_TREE = "tree"
_TENSOR, _MAP, _TUPLE = "tensor", "map", "tuple"


def write(path: Path, tree: Any) -> None:
    """Write dicts, lists, tuples, tensors, numbers and strings, replacing what was there.

    Raises:
        TypeError: something else is in the tree.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_fold(tree, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(path)
    save_file(tensors, fresh, metadata={_TREE: text})
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)


def read(path: Path) -> Any:
    """The tree in a file; None if there is no file, or none of ours."""
    try:
        with safe_open(path, "pt") as file:
            folded = json.loads((file.metadata() or {})[_TREE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return _unfold(folded, tensors)


def forget(path: Path) -> None:
    """Remove a state, and what a write that was killed has left beside it."""
    for left in (path, _fresh(path)):
        left.unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _fold(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON. Maps become lists of pairs: optimisers have keys that are numbers."""
    match tree:
        case Tensor():
            name = str(len(tensors))
            # A copy: safetensors refuses tensors that share memory, as tied weights do.
            tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
            return {_TENSOR: name}
        case dict():
            return {_MAP: [[key, _fold(value, tensors)] for key, value in tree.items()]}
        case tuple():
            return {_TUPLE: [_fold(value, tensors) for value in tree]}
        case list():
            return [_fold(value, tensors) for value in tree]
        case None | bool() | int() | float() | str():
            return tree
    raise TypeError(f"a training state cannot hold {type(tree).__name__}")


def _unfold(folded: Any, tensors: dict[str, torch.Tensor]) -> Any:
    match folded:
        case {"tensor": name}:
            return tensors[name]
        case {"map": pairs}:
            return {key: _unfold(value, tensors) for key, value in pairs}
        case {"tuple": values}:
            return tuple(_unfold(value, tensors) for value in values)
        case list():
            return [_unfold(value, tensors) for value in folded]
    return folded

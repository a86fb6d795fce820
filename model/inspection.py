"""Inspection: what a checkpoint is, whether it is whole, and what two of them differ in.

Owns what people are told of a checkpoint's folder. Promises to judge without building a model, so
that a checkpoint of any version that wrote this format can be looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from .checkpoints import (
    MANIFEST,
    WEIGHTS,
    CheckpointCorrupt,
    differences,
    digest,
    read_manifest,
)
from .schema import Schema, SchemaInvalid


def describe(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, and its tensors as dtype and shape by name.

    Raises:
        CheckpointMissing, CheckpointCorrupt: see `checkpoints.read_manifest`; or the weights have
            no readable header.
    """
    manifest = read_manifest(folder)
    try:
        with safe_open(folder / WEIGHTS, "numpy") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            tensors = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointCorrupt(f"{folder / WEIGHTS}: {error}; train it again") from error
    numbers = sum(int(np.prod(shape)) for _, shape in tensors.values())
    return {
        **manifest,
        "numbers": numbers,
        "tensors": {name: f"{dtype} {shape}" for name, (dtype, shape) in tensors.items()},
    }


def verify(folder: Path) -> list[str]:
    """Everything that is wrong with a checkpoint, one line each; the report's files included.

    Raises:
        CheckpointMissing: there is none.
    """
    try:
        manifest = read_manifest(folder)
        schema_hash = Schema.from_dict(manifest["schema"]).hash
    except CheckpointCorrupt as error:
        return [str(error)]
    except SchemaInvalid as error:
        return [f"{folder / MANIFEST}: {error}"]
    problems = []
    if schema_hash != manifest["schema_hash"]:
        problems.append(f"{folder / MANIFEST}: schema_hash is not that of the schema")
    expected = manifest["files"] | manifest.get("report", {})
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif digest(path) != checksum:
            problems.append(f"{path}: checksum differs")
    known = {MANIFEST, *expected}
    problems += [f"{p}: not of this checkpoint" for p in folder.iterdir() if p.name not in known]
    return problems or _not_finite(folder)


def compare(one: Path, other: Path) -> dict[str, list[str]]:
    """What two checkpoints differ in, by part of the manifest; and their tensors by value.

    Returns:
        lines `key: one -> other` by part, no part without a difference; `tensors` tells the
        largest difference of each tensor that both have in one shape.

    Raises:
        CheckpointMissing, CheckpointCorrupt: as `describe`.
    """
    left, right = describe(one), describe(other)
    found = {
        part: differences({part: left.get(part)}, {part: right.get(part)})
        for part in sorted({*left, *right} - {"tensors"})
    }
    found["tensors"] = differences(left["tensors"], right["tensors"]) + _moved(one, other)
    return {part: lines for part, lines in found.items() if lines}


def _moved(one: Path, other: Path) -> list[str]:
    try:
        left, right = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointCorrupt(f"{one} or {other}: {error}") from error
    lines = []
    for name in sorted(left.keys() & right.keys()):
        a, b = left[name], right[name]
        if a.shape == b.shape and not np.array_equal(a, b):
            largest = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
            lines.append(f"{name}: differs by up to {largest:.3g}")
    return lines


def _not_finite(folder: Path) -> list[str]:
    tensors = load_file(folder / WEIGHTS)
    return [
        f"{folder / WEIGHTS}: {name} has values that are not finite"
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all()
    ]

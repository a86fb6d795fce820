"""Checkpoints: a model's weights with everything needed to trust and to use them.

Owns the folder layout (`weights.safetensors`, `manifest.json`, and the files of the training
run's report) and its checks. Promises that a folder is either whole or not there, and that a
damaged one is never loaded. What the tensors mean is each model's affair.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .placing import put
from .schema import Schema

FORMAT = 1
WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"
_LIBRARIES = ("torch", "numpy", "safetensors")


class CheckpointError(Exception):
    """A checkpoint cannot be used; trying again does not help."""

    retriable = False


class CheckpointMissing(CheckpointError):
    """There is no checkpoint in that folder."""


class CheckpointCorrupt(CheckpointError):
    """The folder's files are not those that were written."""


class CheckpointMismatch(CheckpointError):
    """The checkpoint has other sizes than what is to start from it."""


class SchemaMismatch(CheckpointError):
    """The checkpoint was trained on another schema."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        kind: "retriever" or "ranker".
        version: kind and 12 hex digits of the weights; equal weights have equal versions.
        schema: the schema it was trained on.
        config: the model's own settings.
        metrics: what training measured.
        data_window: first and last event time of its data, and since when it learned if that is
            later, epoch ms.
        tensors: NumPy arrays by name.
    """

    kind: str
    version: str
    schema: Schema
    config: dict[str, Any]
    metrics: dict[str, float]
    data_window: dict[str, int]
    tensors: dict[str, np.ndarray]


def write(
    folder: Path,
    *,
    kind: str,
    schema: Schema,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    data_window: Mapping[str, int],
    tensors: Mapping[str, np.ndarray],
    report: Mapping[str, bytes] | None = None,
) -> str:
    """Write a checkpoint as one folder, replacing what was there.

    Args:
        folder: where.
        kind: "retriever" or "ranker".
        schema, config, metrics, data_window, tensors: see `Checkpoint`.
        report: files by their names, for people; a model is served without them.

    Returns:
        The checkpoint's version.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.new"
    fresh.mkdir()
    try:
        arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(arrays, fresh / WEIGHTS)
        checksum = digest(fresh / WEIGHTS)
        for name, content in (report or {}).items():
            (fresh / name).write_bytes(content)
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "version": f"{kind}-{checksum[:12]}",
            "schema": schema.to_dict(),
            "schema_hash": schema.hash,
            "config": dict(config),
            "metrics": dict(metrics),
            "data_window": dict(data_window),
            "libraries": {"python": platform.python_version()}
            | {name: metadata.version(name) for name in _LIBRARIES},
            "files": {WEIGHTS: checksum},
            "report": {name: digest(fresh / name) for name in report or {}},
        }
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        put(fresh, folder)
    finally:
        # What is left there is what failed, or the checkpoint that was replaced.
        shutil.rmtree(fresh, ignore_errors=True)
    return str(manifest["version"])


def read(folder: Path, kind: str, schema: Schema | None = None) -> Checkpoint:
    """Load a checkpoint and verify it.

    Args:
        folder: where it was written.
        kind: what it must be.
        schema: what it must have been trained on; None accepts its own.

    Raises:
        CheckpointMissing: the folder or its manifest does not exist.
        CheckpointCorrupt: a file is damaged, missing or of another format or kind.
        SchemaMismatch: it was trained on another schema.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            return _read(folder, kind, schema, manifest)
        except (CheckpointCorrupt, OSError):
            # Replaced while it was read: half of it was the old one's.
            if read_manifest(folder) == manifest:
                raise


def _read(
    folder: Path, kind: str, schema: Schema | None, manifest: Mapping[str, Any]
) -> Checkpoint:
    if manifest["kind"] != kind:
        raise CheckpointCorrupt(f"{folder}: holds a {manifest['kind']}, not a {kind}")
    trained = Schema.from_dict(manifest["schema"])
    if trained.hash != manifest["schema_hash"]:
        raise CheckpointCorrupt(f"{folder}: schema and schema_hash disagree; train it again")
    if schema is not None and schema.hash != trained.hash:
        differing = "; ".join(differences(trained.to_dict(), schema.to_dict()))
        raise SchemaMismatch(
            f"{folder}: trained on schema {trained.hash}, asked for {schema.hash} ({differing}); "
            "train it again or configure the schema it was trained on"
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or digest(path) != expected:
            raise CheckpointCorrupt(f"{path}: missing or its checksum differs; train it again")
    return Checkpoint(
        kind=kind,
        version=manifest["version"],
        schema=trained,
        config=manifest["config"],
        metrics=manifest["metrics"],
        data_window=manifest["data_window"],
        tensors=load_file(folder / WEIGHTS),
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, with its keys checked and its weights unread.

    Raises:
        CheckpointMissing: the folder or its manifest does not exist.
        CheckpointCorrupt: the manifest is not one that this version writes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointMissing(f"{folder}: no checkpoint there; `headwater train` makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointCorrupt(f"{path}: not JSON ({error}); train it again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointCorrupt(f"{path}: not a manifest of format {FORMAT}; train it again")
    needed = ("kind", "version", "schema", "schema_hash", "config", "metrics", "data_window")
    if absent := [key for key in (*needed, "files") if key not in manifest]:
        raise CheckpointCorrupt(f"{path}: lacks {absent}; train it again")
    return manifest


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """What differs between two JSON-ready mappings, one line a key: `path: left -> right`."""
    return [
        f"{path}: {_shown(one)} -> {_shown(other)}"
        for path, one, other in _differing("", _plain(left), _plain(right))
    ]


_ABSENT = object()


def _differing(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}):
            deeper = f"{path}.{key}" if path else str(key)
            yield from _differing(deeper, left.get(key, _ABSENT), right.get(key, _ABSENT))
    elif left != right:
        yield path, left, right


def _plain(value: Mapping[str, Any]) -> Any:
    # As a manifest would give it back: tuples are lists there.
    return json.loads(json.dumps(dict(value)))


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)


def digest(path: Path) -> str:
    """The checksum of a file, as manifests name it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Snapshots: an index on disk, with the offsets of what it has applied.

A snapshot is a folder with a manifest and one file of state; the shards lie
beside it in files named by their content, so that a shard which did not change
is written once, however many snapshots hold it. A snapshot appears by one
rename, after everything in it is on disk. Several are kept: when the newest is
damaged the one before is taken.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from .dictionary import FeatureDictionary
from .directory import AdDirectory
from .errors import SnapshotUnsupported
from .index import Index
from .settings import IndexSettings
from .shard import Shard
from .slots import NEVER
from .targeting import Rule, Targeting, TargetingTable

FORMAT = 1
KEPT = 3
MANIFEST = "manifest.json"
STATE = "state.safetensors"
SHARDS = "shards"

# The slots of a restored index that are dead have been so since before any view.
LONG_DEAD = 0

Tensors = dict[str, NDArray[Any]]
Offsets = dict[str, dict[str, int]]

log = structlog.get_logger(__name__)


class _Damaged(Exception):
    """A snapshot that cannot be read back as it was written."""


@dataclass(frozen=True)
class Loaded:
    """An index from disk, published, and what was stored beside it."""

    index: Index
    offsets: Offsets
    extra: dict[str, Any]


def write(
    index: Index,
    folder: Path,
    offsets: Mapping[str, Mapping[str, int]],
    extra: Mapping[str, Any],
) -> Path:
    """Write a snapshot of everything applied so far; by the index's writer.

    Seals the tail, so that all ads are in shards.

    Args:
        index: what to write.
        folder: where snapshots live; made if missing.
        offsets: next offset by topic and partition, of what was applied.
        extra: anything that JSON can hold.

    Returns:
        The snapshot's folder.
    """
    index.seal()
    shards = folder / SHARDS
    shards.mkdir(parents=True, exist_ok=True)
    for _, shard in index.sealed:
        path = _shard_path(folder, shard.digest)
        if not path.exists():
            _write_file(path, save_tensors(shard.tensors()))
    state = save_tensors(_state_tensors(index))
    body = {
        "format": FORMAT,
        "epoch": index.epoch,
        "embedding_width": index.settings.embedding_width,
        "payload_width": index.settings.payload_width,
        "shards": [
            {"kind": shard.kind, "folded": shard.folded, "digest": shard.digest}
            for _, shard in index.sealed
        ],
        "state": _digest(state),
        "offsets": offsets,
        "extra": extra,
    }
    number = max((_number(path) for path in _snapshots(folder)), default=0) + 1
    path = folder / f"{number:012d}"
    draft = folder / f"{path.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    _write_file(draft / STATE, state)
    _write_file(draft / MANIFEST, _sealed_json(body))
    draft.rename(path)
    _sync_folder(folder)
    _prune(folder)
    return path


def load_latest(folder: Path, settings: IndexSettings) -> Loaded | None:
    """The newest snapshot that can be read and fits the settings.

    Returns:
        None if there is none; whoever asked then begins from the beginning.

    Raises:
        SnapshotUnsupported: a snapshot is of a newer format than this.
    """
    for path in sorted(_snapshots(folder), reverse=True):
        try:
            return _load(path, settings)
        except (_Damaged, OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("snapshot_passed_over", path=str(path), reason=str(error))
    return None


def _load(path: Path, settings: IndexSettings) -> Loaded | None:
    manifest = _opened_json((path / MANIFEST).read_bytes())
    if manifest["format"] > FORMAT:
        raise SnapshotUnsupported(
            f"{path} has format {manifest['format']}, this version reads up to {FORMAT}; "
            "start the version that wrote it, or delete the snapshot to begin anew"
        )
    for width in ("embedding_width", "payload_width"):
        if manifest[width] != getattr(settings, width):
            raise _Damaged(f"{width} is {manifest[width]}, not {getattr(settings, width)}")
    state_bytes = (path / STATE).read_bytes()
    if _digest(state_bytes) != manifest["state"]:
        raise _Damaged(f"{STATE}: checksum differs")
    state = load_tensors(state_bytes)
    shards = []
    for entry in manifest["shards"]:
        tensors = load_tensors(_shard_path(path.parent, entry["digest"]).read_bytes())
        shard = Shard.from_tensors(entry["kind"], tensors, folded=entry["folded"])
        if shard.digest != entry["digest"]:
            raise _Damaged(f"shard {entry['digest']}: checksum differs")
        shards.append(shard)
    index = Index(settings)
    index.features = FeatureDictionary(json.loads(state["features"].tobytes()))
    index.targeting = TargetingTable(_read_targeting(state["targeting"].tobytes()))
    index.directory = AdDirectory.from_columns(_directory_tensors(state))
    for shard in shards:
        index.place(shard)
    dead = np.flatnonzero(state["dead"]).astype(np.int32)
    index.slots.kill(dead, LONG_DEAD)
    index.epoch = manifest["epoch"]
    index.restore_delivery()
    index.publish()
    return Loaded(index, manifest["offsets"], manifest["extra"])


def _state_tensors(index: Index) -> Tensors:
    dead = index.slots.dead[: index.slots.count] != NEVER
    return {
        **{f"directory.{name}": column for name, column in index.directory.columns().items()},
        "dead": dead.astype(np.uint8),
        "features": _json_tensor(index.features.keys()),
        "targeting": _json_tensor([_plain(targeting) for targeting in index.targeting.sets()]),
    }


def _plain(targeting: Targeting) -> list[list[Any]]:
    """[field, allowed or None, denied] of each rule."""
    return [
        [rule.field, None if rule.allow is None else sorted(rule.allow), sorted(rule.deny)]
        for rule in targeting
    ]


def _directory_tensors(state: Tensors) -> Tensors:
    prefix = "directory."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def _read_targeting(text: bytes) -> Iterator[Targeting]:
    for targeting in json.loads(text):
        yield tuple(
            Rule(field, None if allow is None else frozenset(allow), frozenset(deny))
            for field, allow, deny in targeting
        )


def _json_tensor(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sealed_json(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=True)
    return json.dumps({"body": body, "checksum": _digest(text.encode())}).encode()


def _opened_json(content: bytes) -> dict[str, Any]:
    manifest = json.loads(content)
    if not isinstance(manifest, dict):
        raise _Damaged(f"{MANIFEST}: not an object")
    body: dict[str, Any] = manifest["body"]
    if _digest(json.dumps(body, sort_keys=True).encode()) != manifest["checksum"]:
        raise _Damaged(f"{MANIFEST}: checksum differs")
    return body


def _shard_path(folder: Path, digest: str) -> Path:
    return folder / SHARDS / f"{digest}.safetensors"


def _snapshots(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[0-9]*") if path.name.isdecimal()]


def _number(path: Path) -> int:
    return int(path.name)


def _write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: Path) -> None:
    """Delete all but the newest snapshots, and shards that none of them hold."""
    ordered = sorted(_snapshots(folder))
    for path in ordered[:-KEPT]:
        shutil.rmtree(path)
    needed: set[str] = set()
    for path in ordered[-KEPT:]:
        try:
            manifest = _opened_json((path / MANIFEST).read_bytes())
        except (_Damaged, OSError, ValueError, KeyError):
            # Unreadable: what it needs is unknown, and it is of no use itself.
            continue
        needed.update(entry["digest"] for entry in manifest["shards"])
    for path in (folder / SHARDS).iterdir():
        if path.name.split(".")[0] not in needed:
            path.unlink()

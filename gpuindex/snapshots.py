"""Snapshots: an index on disk, with the offsets of what it has applied.

A snapshot is a folder with a manifest, a file of state, and a file for each
shard, named by its content. The same file is linked into the folder of bases,
which the workers of a machine share: a shard that some snapshot of some worker
holds already is linked, not written, and all of them map the same memory. A
base that no snapshot links to any more is deleted. A snapshot appears by one
rename, after everything in it is on disk. Several are kept: when the newest is
damaged the one before is taken.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from . import mapped
from .dictionary import FeatureDictionary
from .directory import AdDirectory
from .errors import SnapshotUnsupported
from .index import Index
from .settings import IndexSettings
from .shard import Shard
from .slots import NEVER
from .targeting import Rule, Targeting, TargetingTable

FORMAT = 3
BASES = "bases"
MANIFEST = "manifest.json"
STATE = "state.safetensors"

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
    bases: Path | None = None,
    kept: int = 3,
) -> Path:
    """Write a snapshot of everything applied so far; by the index's writer.

    Seals the tail, so that all ads are in shards.

    Args:
        index: what to write.
        folder: where the worker's snapshots live; made if missing.
        offsets: next offset by topic and partition, of what was applied.
        extra: anything that JSON can hold.
        bases: where shards are shared, on the same file system, made if
            missing; None for a folder within `folder`, shared with nobody.
        kept: how many snapshots stay, this one included.

    Returns:
        The snapshot's folder.
    """
    index.seal()
    folder.mkdir(parents=True, exist_ok=True)
    bases = bases or folder / BASES
    bases.mkdir(parents=True, exist_ok=True)
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
    for _, shard in index.sealed:
        _link_or_write(shard, draft, bases)
    _write_file(draft / STATE, state)
    _write_file(draft / MANIFEST, _sealed_json(body))
    draft.rename(path)
    _sync_folder(folder)
    _prune(folder, bases, kept)
    return path


def load_latest(folder: Path, settings: IndexSettings, bases: Path | None = None) -> Loaded | None:
    """The newest snapshot that can be read and fits the settings.

    Args:
        folder, bases: as in `write`.
        settings: of the index to be.

    Returns:
        None if there is none; whoever asked then begins from the beginning.

    Raises:
        SnapshotUnsupported: a snapshot is of a newer format than this.
    """
    for path in sorted(_snapshots(folder), reverse=True):
        try:
            return _load(path, settings, bases or folder / BASES)
        except (_Damaged, OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("snapshot_passed_over", path=str(path), reason=str(error))
    return None


def _load(path: Path, settings: IndexSettings, bases: Path) -> Loaded:
    manifest = _opened_json((path / MANIFEST).read_bytes())
    if manifest["format"] < FORMAT:
        raise _Damaged(f"format {manifest['format']} is not read any more")
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
    shards = [_load_shard(path, entry, bases) for entry in manifest["shards"]]
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


def _load_shard(path: Path, entry: dict[str, Any], bases: Path) -> Shard:
    digest: str = entry["digest"]
    try:
        tensors = mapped.tensors(path / _shard_name(digest))
        shard = Shard.from_tensors(entry["kind"], tensors, folded=entry["folded"])
        if shard.digest != digest:
            raise _Damaged(f"shard {digest}: checksum differs")
    except (_Damaged, KeyError, ValueError):
        # What is damaged must not be linked into the next snapshot.
        (bases / _shard_name(digest)).unlink(missing_ok=True)
        raise
    return shard


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


def _shard_name(digest: str) -> str:
    return f"{digest}.safetensors"


def _link_or_write(shard: Shard, draft: Path, bases: Path) -> None:
    """Have a shard's file in a snapshot, shared with every other that holds it.

    Other workers may add and delete bases meanwhile: a link is made or not, and
    either way the snapshot's own name for the file holds it.
    """
    name = _shard_name(shard.digest)
    try:
        (draft / name).hardlink_to(bases / name)
    except FileNotFoundError:
        _write_file(draft / name, save_tensors(shard.tensors()))
        with suppress(FileExistsError):
            (bases / name).hardlink_to(draft / name)


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


def _prune(folder: Path, bases: Path, kept: int) -> None:
    """Delete all but the newest snapshots, and bases that none of any worker's holds."""
    for path in sorted(_snapshots(folder))[:-kept]:
        shutil.rmtree(path)
    for path in bases.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_nlink == 1:
                path.unlink()

"""Claims about checkpoints: whole or absent, verified, and tied to a schema."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model import checkpoints
from model.schema import Schema

SCHEMA = Schema(("product",))
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int64)}


def write(folder: Path, tensors: dict[str, np.ndarray] = TENSORS) -> str:
    return checkpoints.write(
        folder,
        kind="retriever",
        schema=SCHEMA,
        config={"width": 3},
        metrics={"loss": 0.5},
        data_window={"first_ms": 1, "last_ms": 2},
        tensors=tensors,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    version = write(tmp_path / "deep" / "one")
    found = checkpoints.read(tmp_path / "deep" / "one", "retriever", SCHEMA)
    assert found.version == version
    assert (found.schema, found.config, found.metrics) == (SCHEMA, {"width": 3}, {"loss": 0.5})
    assert found.data_window == {"first_ms": 1, "last_ms": 2}
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    first = write(tmp_path / "one")
    second = write(tmp_path / "one", {"a": np.zeros(1, np.float32)})
    assert first != second
    assert checkpoints.read(tmp_path / "one", "retriever").version == second
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_failed_write_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    version = write(tmp_path / "one")
    with pytest.raises(Exception, match=r".+"):
        write(tmp_path / "one", {"a": np.array(["text"])})
    assert checkpoints.read(tmp_path / "one", "retriever").version == version
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_missing_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(checkpoints.CheckpointMissing, match="no checkpoint there"):
        checkpoints.read(tmp_path / "none", "retriever")


@pytest.mark.parametrize("damage", ["weights", "no weights", "manifest", "format", "keys"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "one"
    write(folder)
    weights, manifest = folder / checkpoints.WEIGHTS, folder / checkpoints.MANIFEST
    if damage == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "no weights":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "format":
        manifest.write_text(json.dumps({"format": 0}))
    else:
        manifest.write_text(json.dumps({"format": checkpoints.FORMAT}))
    with pytest.raises(checkpoints.CheckpointCorrupt):
        checkpoints.read(folder, "retriever")


def test_other_kind_and_other_schema_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one")
    with pytest.raises(checkpoints.CheckpointCorrupt, match="not a ranker"):
        checkpoints.read(tmp_path / "one", "ranker")
    with pytest.raises(checkpoints.SchemaMismatch, match="train it again"):
        checkpoints.read(tmp_path / "one", "retriever", Schema(("product", "brand")))

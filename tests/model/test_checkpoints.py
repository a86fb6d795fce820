"""Claims about checkpoints: whole or absent, verified, and tied to a schema."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
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


def test_a_mismatched_schema_is_refused_with_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "one")
    other = Schema(("product", "brand"), ("age",), hash_seed=3)
    with pytest.raises(checkpoints.SchemaMismatch) as refused:
        checkpoints.read(tmp_path / "one", "retriever", other)
    said = str(refused.value)
    assert 'item_fields: ["product"] -> ["product", "brand"]' in said
    assert 'profile_fields: [] -> ["age"]' in said
    assert "hash_seed: 0 -> 3" in said
    assert "context_fields" not in said


def test_a_reader_finds_a_whole_checkpoint_while_it_is_replaced(tmp_path: Path) -> None:
    """Two renames would leave a moment without any; files of two versions would not match."""
    folder = tmp_path / "one"
    write(folder)
    done = threading.Event()

    def replace() -> None:
        for number in range(150):
            write(folder, {"a": np.full(3, number, np.float32)})
        done.set()

    with ThreadPoolExecutor() as pool:
        replacing = pool.submit(replace)
        reads = 0
        while not done.is_set() and not replacing.done():
            checkpoints.read(folder, "retriever", SCHEMA)
            reads += 1
        replacing.result()
    assert reads > 10
    assert checkpoints.read(folder, "retriever").tensors["a"].tolist() == [149.0] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_model_is_read_without_its_report(tmp_path: Path) -> None:
    """Pictures are for people; a lost one must not stop a worker."""
    checkpoints.write(
        tmp_path / "one",
        kind="retriever",
        schema=SCHEMA,
        config={},
        metrics={},
        data_window={},
        tensors=TENSORS,
        report={"loss.png": b"picture"},
    )
    assert (tmp_path / "one" / "loss.png").read_bytes() == b"picture"
    (tmp_path / "one" / "loss.png").unlink()
    checkpoints.read(tmp_path / "one", "retriever")

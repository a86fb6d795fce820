"""Claims about looking at checkpoints: every damage is named, every difference is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model import checkpoints, inspection
from model.schema import Schema

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int64)}


def write(folder: Path, tensors: dict[str, np.ndarray] = TENSORS, width: int = 3) -> Path:
    checkpoints.write(
        folder,
        kind="ranker",
        schema=Schema(("product",)),
        config={"width": width},
        metrics={"loss": 0.5},
        data_window={"first_ms": 1, "last_ms": 2},
        tensors=tensors,
        report={"report.json": b"{}"},
    )
    return folder


def test_a_checkpoint_is_described_with_its_tensors(tmp_path: Path) -> None:
    found = inspection.describe(write(tmp_path / "one"))
    assert found["tensors"] == {"a": "F32 [2, 3]", "b": "I64 [2]"}
    assert found["numbers"] == 8
    assert found["config"] == {"width": 3}


def test_a_whole_one_has_no_problems(tmp_path: Path) -> None:
    assert inspection.verify(write(tmp_path / "one")) == []


def flip(folder: Path) -> None:
    content = bytearray((folder / checkpoints.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / checkpoints.WEIGHTS).write_bytes(content)


def edit(folder: Path) -> None:
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    manifest["schema"]["item_fields"].append("brand")
    (folder / checkpoints.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "weights.safetensors: checksum differs"),
        (lambda folder: (folder / checkpoints.WEIGHTS).unlink(), "weights.safetensors: missing"),
        (lambda folder: (folder / "report.json").unlink(), "report.json: missing"),
        (lambda folder: (folder / "model.pt").write_bytes(b""), "model.pt: not of this checkpoint"),
        (lambda folder: (folder / checkpoints.MANIFEST).write_text("{"), "not JSON"),
        (edit, "schema_hash is not that of the schema"),
    ],
)
def test_every_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    folder = write(tmp_path / "one")
    damage(folder)
    (problem,) = inspection.verify(folder)
    assert said in problem


def test_weights_that_are_no_numbers_are_a_problem(tmp_path: Path) -> None:
    """They match their checksum: training wrote them so."""
    folder = write(tmp_path / "one", TENSORS | {"a": np.array([1, np.nan], np.float32)})
    assert "a has values that are not finite" in inspection.verify(folder)[0]


def test_equal_checkpoints_do_not_differ(tmp_path: Path) -> None:
    assert inspection.compare(write(tmp_path / "one"), write(tmp_path / "two")) == {}


def test_differences_are_told_by_part(tmp_path: Path) -> None:
    moved = {"a": TENSORS["a"] + np.float32(0.25), "c": np.zeros(1, np.float32)}
    found = inspection.compare(write(tmp_path / "one"), write(tmp_path / "two", moved, width=4))
    assert found["config"] == ["config.width: 3 -> 4"]
    assert found["tensors"] == [
        'b: "I64 [2]" -> absent',
        'c: absent -> "F32 [1]"',
        "a: differs by up to 0.25",
    ]
    assert set(found) == {"config", "files", "numbers", "tensors", "version"}


def test_a_missing_one_is_missing(tmp_path: Path) -> None:
    for look in (inspection.describe, inspection.verify):
        with pytest.raises(checkpoints.CheckpointMissing):
            look(tmp_path / "none")

"""Claims about a run's state: it comes back as it was, or not at all, and holds no code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training import state


def test_a_tree_comes_back_bit_for_bit(tmp_path: Path) -> None:
    weight = torch.randn(3, 2)
    tree = {
        "tied": [weight, weight],
        "numbers": (1, 0.1 + 0.2, None, True, "text", float("inf")),
        "by number": {0: {"step": torch.tensor(7.0)}, 1: {}},
        "bytes": torch.get_rng_state(),
        "scalar": torch.tensor(3),
    }
    state.write(tmp_path / "deep" / "run", tree)
    found = state.read(tmp_path / "deep" / "run")
    assert found["numbers"] == tree["numbers"]
    assert list(found["by number"]) == [0, 1]
    for mine, theirs in (
        (weight, found["tied"][0]),
        (weight, found["tied"][1]),
        (tree["bytes"], found["bytes"]),
        (tree["scalar"], found["scalar"]),
    ):
        assert torch.equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def test_a_map_that_looks_like_the_file_s_own_marks_comes_back(tmp_path: Path) -> None:
    tree = {"tensor": "0", "map": [1], "tuple": {"map": []}}
    state.write(tmp_path / "run", tree)
    assert state.read(tmp_path / "run") == tree


def test_what_is_no_state_is_none(tmp_path: Path) -> None:
    assert state.read(tmp_path / "absent") is None
    (tmp_path / "torn").write_bytes(b"\x10\x00\x00")
    assert state.read(tmp_path / "torn") is None


def test_a_torn_write_leaves_the_state_before(tmp_path: Path) -> None:
    """A kill in the middle of a write leaves the new file half written beside the old one."""
    state.write(tmp_path / "run", {"step": 1})
    (tmp_path / "run.new").write_bytes(b"half of it")
    assert state.read(tmp_path / "run") == {"step": 1}
    state.write(tmp_path / "run", {"step": 2})
    assert state.read(tmp_path / "run") == {"step": 2}
    (tmp_path / "run.new").write_bytes(b"half of it")
    state.forget(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_what_only_code_could_restore_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="function"):
        state.write(tmp_path / "run", {"loss": lambda: 0})

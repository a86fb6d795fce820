"""`headwater model`: exit codes, and names that lead to checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon import cli
from model import checkpoints
from model.schema import Schema

Headwater = Callable[..., tuple[int, Any]]


@pytest.fixture
def headwater(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Headwater:
    """Runs a verb on checkpoints in a folder of their own; its exit code and its JSON."""
    monkeypatch.setenv("HEADWATER_WORKER__STATE_DIR", str(tmp_path))
    # It would hold on to this test's stderr.
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)

    def run(*words: str) -> tuple[int, Any]:
        monkeypatch.setattr("sys.argv", ["headwater", "model", *words, "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr().out
        return int(ended.value.code or 0), json.loads(out) if out else None

    return run


def write(folder: Path, width: int) -> None:
    checkpoints.write(
        folder,
        kind="ranker",
        schema=Schema(("product",)),
        config={"width": width},
        metrics={"loss": 0.5},
        data_window={"first_ms": 1, "last_ms": 2},
        tensors={"a": np.zeros(width, np.float32)},
    )


def test_a_checkpoint_is_found_by_name_and_by_path(headwater: Headwater, tmp_path: Path) -> None:
    write(tmp_path / "checkpoints" / "one", 3)
    code, named = headwater("inspect", "one")
    assert (code, named["metrics"]) == (0, {"loss": 0.5})
    assert headwater("inspect", str(tmp_path / "checkpoints" / "one")) == (0, named)


def test_a_model_that_cannot_be_loaded_is_not_whole(headwater: Headwater, tmp_path: Path) -> None:
    """Its files are as they were written, but they are no ranker."""
    write(tmp_path / "checkpoints" / "one", 3)
    code, found = headwater("verify", "one")
    assert (code, found["whole"]) == (1, False)
    assert "not a ranker of this version" in found["problems"][0]


def test_differing_is_exit_code_1_and_equal_is_0(headwater: Headwater, tmp_path: Path) -> None:
    write(tmp_path / "checkpoints" / "one", 3)
    write(tmp_path / "checkpoints" / "two", 4)
    code, found = headwater("diff", "one", "two")
    assert (code, found["equal"], found["config"]) == (1, False, ["config.width: 3 -> 4"])
    assert headwater("diff", "one", "one") == (0, {"equal": True})


@pytest.mark.parametrize("verb", ["inspect", "verify", "diff"])
def test_a_missing_checkpoint_is_wrong_usage(headwater: Headwater, verb: str) -> None:
    assert headwater(verb, *["none"] * (1 + (verb == "diff"))) == (2, None)


def test_a_damaged_manifest_fails(headwater: Headwater, tmp_path: Path) -> None:
    write(tmp_path / "checkpoints" / "one", 3)
    (tmp_path / "checkpoints" / "one" / "manifest.json").write_text("{")
    assert headwater("inspect", "one") == (1, None)
    code, found = headwater("verify", "one")
    assert (code, found["whole"]) == (1, False)

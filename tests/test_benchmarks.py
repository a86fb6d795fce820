"""Benchmarks run by one command, all with the same options."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import BENCHMARKS

ROOT = Path(__file__).resolve().parent.parent

MEASURING = """
import json, sys
axis = __spec__.name + ("_quick" if "--quick" in sys.argv else "")
rows = [{"axis": axis, "system": "headwater", "value": 1, "unit": "s", "spread": 0, "n": 1}]
open(sys.argv[2], "w").write(json.dumps(rows))
"""
FAILING = """
raise SystemExit("no such peer")
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts the runner beside benchmarks of the test's own, by name; returns its folder."""

    def write(**benchmarks: str) -> Path:
        folder = tmp_path / "benchmarks"
        folder.mkdir()
        (folder / "__main__.py").write_bytes((ROOT / "benchmarks" / "__main__.py").read_bytes())
        (folder / "__init__.py").write_text(f"BENCHMARKS = {tuple(benchmarks)}")
        for name, text in benchmarks.items():
            (folder / f"{name}.py").write_text(text)
        return folder

    return write


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )


def test_rows_of_all_benchmarks_end_in_one_file(write: Write) -> None:
    folder = write(second=MEASURING, first=MEASURING)
    done = run(folder, "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["benchmarks.second", "benchmarks.first"]


def test_a_failure_stops_no_other_benchmark_and_is_told(write: Write) -> None:
    folder = write(broken=FAILING, sound=MEASURING)
    done = run(folder, "--json", "rows.json")
    assert done.returncode == 1
    assert "no such peer" in done.stderr
    assert "failed: broken" in done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["benchmarks.sound"]


def test_a_first_look_is_asked_of_each(write: Write) -> None:
    folder = write(some=MEASURING, other=MEASURING)
    done = run(folder, "other", "--quick", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["benchmarks.other_quick"]


def test_an_unknown_benchmark_is_named_with_the_known_ones(write: Write) -> None:
    done = run(write(sound=MEASURING), "sounds")
    assert done.returncode == 2
    assert "no benchmark sounds; there are sound" in done.stderr


def test_every_module_that_runs_on_its_own_is_named() -> None:
    """Otherwise `make bench` would leave it out without a word."""
    modules = (ROOT / "benchmarks").glob("*.py")
    alone = {path.stem for path in modules if '__name__ == "__main__"' in path.read_text("utf-8")}
    assert alone - {"__main__"} == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_takes_what_the_runner_asks_and_is_documented(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        import_module(f"benchmarks.{name}").main()
    shown = capsys.readouterr().out
    assert f"python -m benchmarks.{name} " in shown
    assert "--json" in shown
    assert "--quick" in shown
    assert f"benchmarks.{name}" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")

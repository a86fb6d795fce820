"""Benchmarks can be found and run by one command, each with the same option."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as runner

ROOT = Path(__file__).resolve().parent.parent

MEASURING = """
import json, sys
if __name__ == "__main__":
    rows = [{"axis": "{axis}", "system": "headwater", "value": 1, "unit": "s", "spread": 0, "n": 1}]
    open(sys.argv[2], "w").write(json.dumps(rows))
"""
FAILING = """
if __name__ == "__main__":
    raise SystemExit("no such peer")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the runner beside benchmarks of the test's own."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (folder / name).write_bytes((ROOT / "benchmarks" / name).read_bytes())
    (folder / "workload.py").write_text("USERS = 3\n")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )


def test_rows_of_all_benchmarks_end_in_one_file(folder: Path) -> None:
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text(MEASURING.replace("{axis}", f"{name}_s"))
    done = run(folder, "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["first_s", "second_s"]


def test_a_failure_stops_no_other_benchmark_and_is_told(folder: Path) -> None:
    (folder / "broken.py").write_text(FAILING)
    (folder / "sound.py").write_text(MEASURING.replace("{axis}", "sound_s"))
    done = run(folder, "--json", "rows.json")
    assert done.returncode == 1
    assert "no such peer" in done.stderr
    assert "failed: broken" in done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["sound_s"]


def test_a_quick_run_is_asked_of_those_that_have_one(folder: Path) -> None:
    quick = MEASURING.replace("{axis}", "with_quick_s").replace(
        "json.dumps(rows)", 'json.dumps(rows if "--quick" in sys.argv else [])'
    )
    (folder / "small.py").write_text(quick)
    (folder / "whole.py").write_text(
        MEASURING.replace("{axis}", "whole_s") + "    assert len(sys.argv) == 3"
    )
    done = run(folder, "--quick", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder.parent / "rows.json").read_text())
    assert [row["axis"] for row in rows] == ["with_quick_s", "whole_s"]


def test_an_unknown_benchmark_is_named_with_the_known_ones(folder: Path) -> None:
    (folder / "sound.py").write_text(MEASURING)
    done = run(folder, "sounds")
    assert done.returncode == 2
    assert "no benchmark sounds; there are sound" in done.stderr


@pytest.mark.parametrize("name", runner.benchmarks())
def test_every_benchmark_writes_rows_and_is_documented(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "--json" in shown.stdout, shown.stderr
    # Parsed and documented, where there is one.
    assert ("--quick" in shown.stdout) == runner.has_quick_run(name)
    assert f"benchmarks.{name}" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")

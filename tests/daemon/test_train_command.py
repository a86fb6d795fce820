"""`headwater train`: killed at a random step it goes on, and what it cannot learn from it says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import news_site
import pytest
from typer.testing import CliRunner

from daemon import cli, training
from daemon.failure import Failed
from model import checkpoints
from model.training import state

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> news_site.NewsSite:
    return news_site.write(tmp_path_factory.mktemp("news"))


# What the command does, without the start of the command line: a kill means the same to both.
TRAIN = """
import sys
from pathlib import Path
from daemon import training
from model.training import Options

kind, data, folder = sys.argv[1:]
lesson = training.mapped(Path(data), until_ms=None)
options = Options(save_every_s=0.0)
training.train(training.Kind(kind), lesson, "tiny", Path(folder), lambda *_: None, options)
"""


def start(kind: str, site: news_site.NewsSite, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TRAIN, kind, str(site.map), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def kill_at_a_step(process: subprocess.Popen[bytes], left: Path, stages: set[str]) -> None:
    """Kill -9 when the run is at one of its loops' steps, whichever it is just then."""
    wanted = random.randint(3, 30)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        stage = (state.read(left) or {}).get("stage")
        if stage and stage["name"] in stages and stage["step"] >= wanted:
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {wanted} of {stages}")


@pytest.mark.parametrize(("kind", "stages"), [("retriever", {"final"}), ("ranker", {"fit"})])
def test_a_run_killed_at_a_random_step_ends_as_one_that_was_not(
    site: news_site.NewsSite, tmp_path: Path, kind: str, stages: set[str]
) -> None:
    """Bit for bit: the version is a digest of the weights."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    kill_at_a_step(start(kind, site, cut), tmp_path / ".cut.run.safetensors", stages)
    assert not cut.exists()

    lesson = training.mapped(site.map, until_ms=None)
    for folder in (cut, whole):
        training.train(training.Kind(kind), lesson, "tiny", folder, lambda *_: None)
    curves = json.loads((cut / "report.json").read_text())["curves"]
    assert any(curve["resumed"] for curve in curves.values())
    versions = {checkpoints.read_manifest(folder)["version"] for folder in (cut, whole)}
    assert len(versions) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--data", "nowhere.toml"], 2, "nowhere.toml"),
        (["--until", "2024-04-01"], 2, "needs --data"),
        (["--data", "{map}", "--preset", "vast"], 2, "vast"),
        (["--data", "{map}", "--until", "yesterday"], 2, "yesterday"),
        (["--data", "{map}", "--until", "2024-03-01"], 1, "no event in that time"),
        (["--data", "{map}", "--since", "2024-04-12"], 1, "no visit is left to learn from"),
        (["--data", "{map}", "--base", "none"], 2, "no checkpoint there"),
    ],
)
def test_what_cannot_be_trained_says_why(
    site: news_site.NewsSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    # It would hold on to this test's stderr.
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)
    # As the command would set it for itself by starting anew.
    monkeypatch.setattr("daemon.environment.prepare", lambda worker: None)
    words = [word.format(map=site.map) for word in words]
    state_dir = f"worker.state_dir={tmp_path}"
    monkeypatch.setattr(
        "sys.argv", ["headwater", "train", "ranker", "--preset", "tiny", "--set", state_dir, *words]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_run_says_that_it_goes_on_and_what_it_will_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("daemon.environment.prepare", lambda worker: None)
    monkeypatch.setattr(training, "packaged", lambda _: None)
    monkeypatch.setattr(training, "train", interrupted)
    (tmp_path / "checkpoints" / "ranker-demo").mkdir(parents=True)
    arguments = ["train", "ranker", "--set", f"worker.state_dir={tmp_path}"]
    done = CliRunner().invoke(cli.app, arguments)
    assert isinstance(done.exception, Failed)
    assert "without --no-resume the same command goes on" in str(done.exception)
    assert "is replaced at the end" in " ".join(done.stderr.split())

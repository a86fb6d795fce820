"""The verbs that ask a worker: where they find it, and what they print for people."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console
from typer.testing import CliRunner

from daemon.cli import app
from daemon.commands import worker_http
from daemon.commands.options import worker_url
from daemon.commands.status import page
from daemon.failure import report
from daemon.settings import ConfigurationError
from stream.errors import BrokerUnavailable

RUNNER = CliRunner()


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"headwater \d+\.\d+\.\d+\n", RUNNER.invoke(app, ["--version"]).output)


def test_no_verb_loads_kernels_torch_or_pandas_before_it_needs_them() -> None:
    """Every verb would wait for them; and some read thread counts and cache folders only once."""
    program = "import sys, daemon.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"torch", "numba", "gpuindex", "pandas"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("10.0.0.9", "http://10.0.0.9:7"),
    ],
)
def test_a_worker_is_asked_where_its_configuration_says(
    tmp_path: Path, host: str, url: str
) -> None:
    config = tmp_path / "w.toml"
    config.write_text(f'[worker]\nhost = "{host}"\nport = 7\n')
    assert worker_url(None, config, None) == url
    assert worker_url(None, config, ["worker.port=8"]) == url.replace(":7", ":8")
    assert worker_url("http://elsewhere", config, None) == "http://elsewhere"


def test_a_port_that_the_worker_picked_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match="--url or HEADWATER_URL"):
        worker_url(None, None, ["worker.port=0"])


@pytest.mark.parametrize("verb", [["status"], ["ad", "1"], ["explain", "1", "--user-id", "1"]])
def test_verbs_ask_the_worker_of_the_configuration(verb: list[str]) -> None:
    done = RUNNER.invoke(app, [*verb, "--set", "worker.port=1"])
    assert "http://127.0.0.1:1: Connect call failed" in str(done.exception)


def test_status_tells_a_person_what_is_wrong_and_how_far_the_worker_is() -> None:
    body = {
        "worker": "worker-7",
        "ready": False,
        "reasons": {"kafka": "kafka_unreachable: no answer for 12 s"},
        "now_ms": 0,
        "kafka": {"cluster": "abc", "silence_s": 12.1},
        "lag": {"ads": {"0": 1_200, "1": 34}},
        "paused": {"ads": "no room"},
        "device": "cpu",
        "epoch": 3,
        "ads": {"base": 10_000},
        "offsets": {"ads": {"0": 5_000, "1": 6_000}},
        "models": {},
        "memory": {"postings": 3 << 20, "tail": 0},
    }
    console = Console(width=100)
    with console.capture() as captured:
        console.print(page(body))
    text = captured.get()
    assert "worker-7 is not ready" in text
    assert "kafka_unreachable: no answer for 12 s" in text
    assert "base 10,000" in text
    assert "postings 3.0 MiB" in text
    assert "1970" not in text
    assert "tail" not in text
    assert re.search(r"^ads +11,000 +1,234 +no room", text, re.MULTILINE)


def test_a_long_history_is_shown_by_its_newest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        {"event_id": f"e-{at}", "ad_id": None, "action": "buy", "time_ms": at * 1_000, "value": 3.5}
        for at in range(30)
    ]
    features = {"features": {"product": ["77"], "store": ["3"]}}
    user = {"user_id": "1", "partition": 2, "events": [{**each, **features} for each in events]}
    monkeypatch.setattr(worker_http, "get", lambda *_: user)
    shown = RUNNER.invoke(app, ["user", "show", "1"], catch_exceptions=False).stdout
    assert re.search(r"^30 +1970-01-01 00:00:29\+00:00 buy 3.5 product=77, store=3", shown, re.M)
    assert re.search(r"^21 ", shown, re.MULTILINE)
    assert not re.search(r"^20 ", shown, re.MULTILINE)
    assert "--all" in shown
    whole = RUNNER.invoke(app, ["user", "show", "1", "--all"], catch_exceptions=False).stdout
    assert re.search(r"^1 ", whole, re.MULTILINE)


@pytest.mark.parametrize("verb", [["topics", "check"], ["dlq", "list", "ads"]])
def test_without_kafka_every_verb_says_where_it_looked_and_what_to_do(verb: list[str]) -> None:
    done = RUNNER.invoke(app, [*verb, "--bootstrap", "127.0.0.1:1"])
    assert isinstance(done.exception, BrokerUnavailable)
    with patch("sys.stderr", io.StringIO()) as told:
        assert report(done.exception) == 1
    assert "no Kafka at 127.0.0.1:1 (kafka.bootstrap); start one with" in told.getvalue()

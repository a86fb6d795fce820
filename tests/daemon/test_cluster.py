"""Secrets come from files or the environment, and what is wrong with them is told without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import cluster
from daemon.settings import ConfigurationError, load

SECRET = "s3cret-Wasser"


def test_a_password_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f" {SECRET}\r\n")
    section = {"security": "SASL_PLAINTEXT", "username": "head", "password_file": str(path)}
    kafka = cluster.kafka(load(None, {"kafka": section}).kafka)
    assert kafka.security.password == f" {SECRET}"
    assert kafka.client_options()["sasl_plain_password"] == f" {SECRET}"
    assert SECRET not in repr(kafka)


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_KAFKA__PASSWORD", SECRET)
    settings = load(None, {"kafka": {"security": "SASL_PLAINTEXT", "username": "head"}})
    assert cluster.kafka(settings.kafka).security.password == SECRET
    assert SECRET not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"security": "SASL_SSL"}, "kafka.username and kafka.password_file"),
        ({"password": SECRET, "password_file": "x"}, "kafka.password and kafka.password_file"),
        ({"password_file": "/nowhere"}, "kafka.password_file = /nowhere: No such file"),
        ({"security": "SSL", "ca_file": "/nowhere"}, "kafka.ca_file = /nowhere"),
        ({"security": "SSL", "certificate_file": __file__}, "each is a file in PEM"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(
    section: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        cluster.kafka(load(None, {"kafka": section}).kafka)
    assert SECRET not in str(refused.value)


def test_a_wrong_type_is_told_without_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text("[kafka]\npassword = 12345678\n")
    with pytest.raises(ConfigurationError, match=r"kafka\.password = \(secret\)") as refused:
        load(path)
    assert "12345678" not in str(refused.value)

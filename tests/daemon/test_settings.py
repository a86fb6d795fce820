"""Settings: their order of precedence, and errors that an operator can act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import reference
from daemon.settings import ConfigurationError, Settings, load


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "headwater.toml"
        path.write_text(text)
        return path

    return write


def test_everything_has_a_default():
    assert load().worker.port == 8080


def test_file_is_overridden_by_the_environment_and_that_by_the_command_line(config, monkeypatch):
    path = config("[worker]\nport = 1\nid = 'file'\n[scoring]\ncandidates = 7\n")
    monkeypatch.setenv("HEADWATER_WORKER__PORT", "2")
    monkeypatch.setenv("HEADWATER_WORKER__ID", "environment")
    settings = load(path, {"worker": {"id": "command-line"}})
    assert (settings.worker.port, settings.worker.id) == (2, "command-line")
    assert settings.scoring.candidates == 7


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[worker]\nport = 99999", ["worker.port", "99999", "65535"]),
        ("[worker]\nprt = 1", ["worker.prt", "port"]),
        ("[wrker]\nport = 1", ["wrker", "worker"]),
        ("[clock]\nmode = 'sundial'", ["clock.mode", "sundial", "wall", "replay"]),
        ("[kafka]\nbootstrap = 9", ["kafka.bootstrap", "9", "string"]),
        ("[worker", ["headwater.toml", "TOML"]),
    ],
)
def test_a_bad_file_names_the_key_the_value_and_what_is_allowed(config, text, named):
    with pytest.raises(ConfigurationError) as error:
        load(config(text))
    assert all(word in str(error.value) for word in named)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADWATER_KAFKA", "notjson"),
        ("HEADWATER_WRKER__PORT", "1"),
        ("HEADWATER_KAFKA_BOOTSTRAP", "h:1"),
    ],
)
def test_a_bad_variable_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"(?i)environment.*(kafka|wrker)"):
        load()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


def test_settings_cannot_change():
    with pytest.raises(ValueError, match="frozen"):
        load().worker.port = 1


def test_the_page_of_settings_is_the_one_that_the_settings_make():
    assert reference.PAGE.read_text() == reference.page(), "run python -m daemon.reference"


def test_every_setting_says_what_it_means():
    for name, section in Settings.model_fields.items():
        for key, setting in section.annotation.model_fields.items():
            assert setting.description, f"{name}.{key}"

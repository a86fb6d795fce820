"""Log lines of libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from daemon.logs import configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def test_a_message_that_repeats_is_shown_once(capsys: pytest.CaptureFixture[str]):
    """While a broker is away its client says the same hundreds of times a second."""
    configure_logging("warning", "json")
    client = logging.getLogger("some.client")
    for attempt in range(100):
        client.error("no broker at %s", attempt)
    client.error("something else")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no broker at 0" in lines[0]
    assert "something else" in lines[1]

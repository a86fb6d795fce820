"""The device that was asked for is told before anything runs on it, or why there is none."""

import pytest
from structlog.testing import capture_logs

from daemon.device import choose
from daemon.settings import ConfigurationError, IndexSection
from gpuindex.device import choice


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU."""
    monkeypatch.setattr(choice, "DRIVER", "libthatnobodyhas.so.1")


@pytest.mark.parametrize(("wanted", "told"), [("auto", "no NVIDIA driver"), ("cpu", None)])
def test_the_log_tells_the_device_and_what_auto_found_missing(
    wanted: str, told: str | None
) -> None:
    with capture_logs() as lines:
        assert choose(IndexSection(device=wanted)) == "cpu"
    (line,) = lines
    assert (line["event"], line["device"], line["wanted"]) == ("device_chosen", "cpu", wanted)
    assert line["missing"] is None if told is None else line["missing"].startswith(told)


def test_a_device_that_cannot_be_used_is_refused_with_the_key_and_the_way_out() -> None:
    with pytest.raises(
        ConfigurationError, match=r'index.device = "cuda": no NVIDIA driver.*"auto" or "cpu"'
    ):
        choose(IndexSection(device="cuda"))

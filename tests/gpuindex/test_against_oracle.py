"""Any interleaving of writes, tidying, restarts and queries equals a dict."""

import dataclasses

import pytest
from hypothesis import HealthCheck, settings
from index_oracle import SETTINGS, IndexMachine

from gpuindex import compaction

# A failure is shrunk for up to five minutes before it is shown.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compactions of a few ads take as many steps as those of many."""
    monkeypatch.setattr(compaction, "SLICE_POSTINGS", 3)
    monkeypatch.setattr(compaction, "SLICE_ADS", 4)


@pytest.fixture(autouse=True)
def on_the_runs_device(search_device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = dataclasses.replace(SETTINGS, device=search_device)
    monkeypatch.setattr(IndexMachine, "settings", own)


IndexMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyInterleavingEqualsADict = IndexMachine.TestCase

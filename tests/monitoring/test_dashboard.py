"""The dashboard file is the generator's, and asks only for what is scraped."""

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitoring import metrics
from monitoring.batches import BatchHistogram
from monitoring.build import record_build
from monitoring.dashboard import PATH, dashboard, render
from monitoring.panels import ROWS, Panel

PANELS = [panel for row in ROWS for panel in row.panels]
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "gauge": ("",),
}
# Labels that Prometheus itself adds, and a histogram's own.
ADDED_LABELS = {"instance", "job", "le"}


def families() -> Iterator[Metric]:
    yield from text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())


def series_in(expression: str) -> set[str]:
    return set(re.findall(r"\b((?:headwater|process|python)_[a-z_]+)\b", expression))


def labels_in(expression: str) -> set[str]:
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    matched = re.findall(r"(\w+)=~?\"", expression)
    return {label.strip() for group in grouped for label in group.split(",")} | set(matched)


def test_the_file_is_what_the_generator_writes() -> None:
    """Run `python -m monitoring.dashboard` after changing a panel."""
    assert PATH.read_text(encoding="utf-8") == render()


def test_every_series_asked_for_is_in_a_scrape() -> None:
    scraped = {f.name + suffix for f in families() for suffix in SUFFIXES.get(f.type, ())}
    asked = {s for panel in PANELS for q in panel.queries for s in series_in(q.expression)}
    assert asked
    assert asked <= scraped


@pytest.fixture(scope="module")
def labels_of() -> dict[str, set[str]]:
    """Label names by metric family; an Info's are those of its one sample."""
    record_build(device="cpu")
    declared = {
        metric._name: set(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    batched = {
        metric.name: {metric.label}
        for metric in vars(metrics).values()
        if isinstance(metric, BatchHistogram)
    }
    (build,) = (sample for f in families() if f.name == "headwater_build" for sample in f.samples)
    return declared | batched | {"headwater_build": set(build.labels)}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_query_uses_only_labels_that_its_metrics_have(
    panel: Panel, labels_of: dict[str, set[str]]
) -> None:
    for query in panel.queries:
        known = set(ADDED_LABELS)
        for series in series_in(query.expression):
            known |= labels_of.get(re.sub(r"_(total|bucket|count|sum|info)$", "", series), set())
        assert labels_in(query.expression) <= known


def test_every_own_metric_is_on_the_dashboard() -> None:
    """A metric that nobody looks at is a cost without a use."""
    shown = " ".join(q.expression for panel in PANELS for q in panel.queries)
    own = {f.name for f in families() if f.name.startswith("headwater_")}
    assert {name for name in own if name not in shown} == set()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_has_a_unit_a_meaning_and_legends(panel: Panel) -> None:
    assert panel.unit
    assert panel.meaning.endswith(".")
    assert panel.queries
    assert all(query.legend for query in panel.queries)


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


def test_panel_ids_are_unique() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_file_is_plain_json_with_a_stable_uid() -> None:
    """Links to the dashboard carry its uid."""
    assert json.loads(PATH.read_text(encoding="utf-8"))["uid"] == "headwater"

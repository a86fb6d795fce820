"""The dashboard file is the generator's, and asks only for what is scraped."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitoring import metrics
from monitoring.batches import BatchHistogram
from monitoring.build import record_build
from monitoring.dashboard import PATH, dashboard, render
from monitoring.panels import ROWS, Panel

RULES = PATH.parent.parent / "rules.yml"
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


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


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


def test_a_value_of_now_is_asked_for_now_and_not_the_last_of_a_range() -> None:
    """A worker that was killed would look ready until its last sample leaves the window."""
    for panel in dashboard()["panels"]:
        instant = {target["instant"] for target in panel.get("targets", ())}
        assert instant <= {panel["type"] == "stat"}


def test_a_worker_that_cannot_be_scraped_is_shown_as_not_ready() -> None:
    (panel,) = (panel for panel in PANELS if panel.title == "Ready")
    (query,) = panel.queries
    assert re.search(r"headwater_ready\{.*or 0 \* .*up\{.*job=\"headwater\"", query.expression)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_scraped_by_labels_that_it_has(
    rule: dict[str, Any], labels_of: dict[str, set[str]]
) -> None:
    scraped = {f.name + suffix for f in families() for suffix in SUFFIXES.get(f.type, ())}
    series = series_in(rule["expr"])
    assert series <= scraped
    assert series or 'up{job="headwater"}' in rule["expr"]
    known = {"instance", "job"}.union(
        *(labels_of.get(name.removesuffix("_total"), set()) for name in series)
    )
    kept = re.findall(r"by \(([^)]*)\)", rule["expr"])
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert labels_in(rule["expr"]) <= known
    assert told <= {label.strip() for labels in kept for label in labels.split(",")} | (
        set() if kept else known
    )


def test_prometheus_loads_the_rules_and_calls_the_job_as_they_do() -> None:
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == [RULES.name]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["headwater"]


def test_the_file_is_plain_json_with_a_stable_uid() -> None:
    """Links to the dashboard carry its uid."""
    assert json.loads(PATH.read_text(encoding="utf-8"))["uid"] == "headwater"

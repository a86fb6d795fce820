"""Grafana's JSON of the Headwater dashboard, generated from `panels`.

Owns the layout and the file `monitoring/grafana/headwater.json`, which
`python -m monitoring.dashboard` writes. The same panels always give the same
bytes.
"""

import json
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from .panels import ROWS, Panel, Row

PATH: Final = Path(__file__).parent / "grafana" / "headwater.json"

_GRID_WIDTH: Final = 24
_PER_LINE: Final = 3
_STAT_HEIGHT: Final = 4
_CHART_HEIGHT: Final = 8
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    ids = count(1)
    panels: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        placed, y = _row(row, y, ids)
        panels += placed
    return {
        "uid": "headwater",
        "title": "Headwater",
        "description": "Ad freshness, requests, streams and the index of Headwater's workers.",
        "tags": ["headwater"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [_datasource_variable(), _instance_variable()]},
        "panels": panels,
    }


def render() -> str:
    """The bytes of the file, as text."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _row(row: Row, y: int, ids: "count[int]") -> tuple[list[dict[str, Any]], int]:
    """The row's heading and panels from line y on, and the line after them."""
    heading = {
        "id": next(ids),
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": _GRID_WIDTH, "h": 1},
        "panels": [],
    }
    placed = [heading]
    y += 1
    all_stats = all(panel.kind == "stat" for panel in row.panels)
    per_line = len(row.panels) if all_stats else _PER_LINE
    height = _STAT_HEIGHT if all_stats else _CHART_HEIGHT
    for start in range(0, len(row.panels), per_line):
        line = row.panels[start : start + per_line]
        width = _GRID_WIDTH // len(line)
        for column, panel in enumerate(line):
            position = {"x": column * width, "y": y, "w": width, "h": height}
            placed.append(_panel(panel, next(ids), position))
        y += height
    return placed, y


def _panel(panel: Panel, panel_id: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "gridPos": position,
        "datasource": _DATASOURCE,
        "targets": [
            {
                "refId": letter,
                "datasource": _DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                # A value of now is asked for now: the last one of a range outlives its worker.
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for letter, query in zip(ascii_uppercase, panel.queries, strict=False)
        ],
        "fieldConfig": {"defaults": _field_defaults(panel), "overrides": []},
        "options": _stat_options() if panel.kind == "stat" else _chart_options(),
    }


def _field_defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": _threshold_steps(panel.bounds)},
    }
    if panel.value_names:
        names = {str(value): {"text": text} for value, text in panel.value_names.items()}
        defaults["mappings"] = [{"type": "value", "options": names}]
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
    else:
        shown = "dashed" if panel.bounds else "off"
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 8,
            "showPoints": "auto",
            "thresholdsStyle": {"mode": shown},
        }
    return defaults


def _threshold_steps(bounds: tuple[float, float] | None) -> list[dict[str, Any]]:
    """Colours from the lowest value up; Grafana reads null as minus infinity."""
    if bounds is None:
        return [{"color": "blue", "value": None}]
    amber, red = bounds
    if red < amber:
        return [
            {"color": "red", "value": None},
            {"color": "orange", "value": red},
            {"color": "green", "value": amber},
        ]
    return [
        {"color": "green", "value": None},
        {"color": "orange", "value": amber},
        {"color": "red", "value": red},
    ]


def _stat_options() -> dict[str, Any]:
    return {
        "colorMode": "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }


def _chart_options() -> dict[str, Any]:
    return {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _datasource_variable() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _instance_variable() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Worker",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": "label_values(headwater_ready, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")

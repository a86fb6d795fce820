"""`headwater status`: what a running worker says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import options, worker_http
from .output import show

_MIB = 1 << 20
# Less would be shown as 0.0 MiB.
_SHOWN_BYTES = _MIB // 20


def status(
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Ask a worker for its status; exit code 1 when it is not ready."""
    at = options.worker_url(url, config, assignments)
    body = worker_http.get(at, "/v1/status")
    if as_json:
        show(body, as_json)
    else:
        Console(highlight=False).print(page(body))
    if not body["ready"]:
        raise typer.Exit(1)


def page(body: Mapping[str, Any]) -> RenderableType:
    """The status for a person: whether it is ready and why not, what it holds, how far it is."""
    ready = Text("ready", "bold green") if body["ready"] else Text("not ready", "bold red")
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(body):
        facts.add_row(name, Text(value))
    topics = Table(box=None, pad_edge=False, header_style="bold")
    topics.add_column("topic")
    topics.add_column("applied", justify="right")
    topics.add_column("lag", justify="right")
    topics.add_column("", overflow="fold")
    for topic, applied in body["offsets"].items():
        lag = sum(body["lag"].get(topic, {}).values())
        topics.add_row(
            topic, f"{sum(applied.values()):,}", f"{lag:,}", body["paused"].get(topic, "")
        )
    return Group(Text.assemble((body["worker"], "bold"), " is ", ready), facts, Text(), topics)


def _facts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for condition, reason in body["reasons"].items():
        yield f"- {condition}", reason
    if body["now_ms"]:
        yield "now", datetime.fromtimestamp(body["now_ms"] / 1e3, UTC).isoformat(" ", "seconds")
    else:
        yield "now", "not known yet: the replay's clock has not come"
    silence_s = body["kafka"]["silence_s"]
    yield "Kafka", "has not answered yet" if silence_s is None else f"answered {silence_s} s ago"
    yield "device", body["device"]
    if body["models"]:
        yield "models", _list(body["models"].items())
    if body["epoch"] is not None:
        yield "ads", _list((kind, f"{count:,}") for kind, count in body["ads"].items())
        yield "epoch", f"{body['epoch']:,}"
        sizes = (
            (part, f"{size / _MIB:,.1f} MiB")
            for part, size in body["memory"].items()
            if size >= _SHOWN_BYTES
        )
        yield "memory", _list(sizes)


def _list(pairs: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs)

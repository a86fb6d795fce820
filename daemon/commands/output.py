"""What a verb prints: a table of names and values for people, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def say(text: str) -> None:
    """Print one line to stdout."""
    print(text)


def show(values: Mapping[str, Any], as_json: bool) -> None:
    """Print one mapping to stdout."""
    if as_json:
        print(json.dumps(values))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, _text(value))
    Console(highlight=False).print(table)


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
        case dict():
            return "\n".join(f"{name}: {_text(inner)}" for name, inner in value.items()) or "-"
        case list() | tuple():
            return "\n".join(_text(inner) for inner in value) or "-"
        case _:
            return str(value)

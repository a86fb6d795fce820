"""`docs/configuration.md`, generated from the settings that it describes.

Run `python -m daemon.reference` to write it; a test fails while it differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from .settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

_PREFACE = """\
# Configuration

One TOML file (`headwater serve --config FILE`), overridden by the environment
(`HEADWATER_SECTION__KEY`), overridden by the command line (`--set section.key=value`). An unknown
key or a value out of bounds ends the command with exit code 2 and a message that names the key,
the value and what is allowed. Settings are read once, when a command starts.
"""
_KINDS: dict[Any, str] = {str: "text", SecretStr: "text", int: "integer", float: "number"}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_PREFACE, *_sections()])


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        yield f"## `[{name}]`\n\n{section.__doc__.strip()}\n"
        yield "| key | default | allowed | meaning |\n|---|---|---|---|"
        for key, setting in section.model_fields.items():
            shown = "" if setting.default is None else str(setting.default)
            default = f"`{shown}`" if shown else "empty"
            row = (f"`{name}.{key}`", default, _allowed(setting), setting.description or "")
            yield f"| {' | '.join(row)} |"
        yield ""


def _allowed(setting: FieldInfo) -> str:
    kind: Any = setting.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    words = [_KINDS.get(kind, "path")]
    for bound in setting.metadata:
        words += [
            f"{word} {getattr(bound, at):,}" for at, word in _BOUNDS.items() if hasattr(bound, at)
        ]
        if pattern := getattr(bound, "pattern", None):
            words.append(f"like `{pattern}`")
    return ", ".join(words)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

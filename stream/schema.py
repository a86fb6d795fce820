"""JSON Schema of the records, generated from their types into `docs/schemas/`.

Owns the files, one per kind of value. Run `python -m stream.schema` to write them; a test fails
while they differ. What JSON Schema cannot say (the bound on features, ids up to 2^63 - 1, event
times that are not in the future) is `stream.codec`'s to check.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from .bodies import AdBody, EventBody
from .records import (
    ID_PATTERN,
    ClockTick,
    Delivery,
    Impression,
    ScoreRequest,
    ScoreResponse,
)

FOLDER: Final = Path(__file__).parent.parent / "docs" / "schemas"

RECORDS: Final[Mapping[str, type[Struct]]] = {
    "ads": AdBody,
    "ads-control": Delivery,
    "ads-control-clock": ClockTick,
    "user-events": EventBody,
    "score-requests": ScoreRequest,
    "score-responses": ScoreResponse,
    "impressions": Impression,
}

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# Every number in JSON is within these.
_NO_BOUNDS: Final[dict[str, float]] = {
    "minimum": -sys.float_info.max,
    "maximum": sys.float_info.max,
}


def schema(title: str) -> dict[str, Any]:
    """The JSON Schema of the values that `RECORDS` has under `title`."""
    record = RECORDS[title]
    (root,), parts = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    body = parts.pop(root["$ref"].rpartition("/")[2])
    definitions = {"$defs": parts} if parts else {}
    return {"$schema": _DIALECT, **_as_written(body), "title": title, **_as_written(definitions)}


def pages() -> Iterator[tuple[Path, str]]:
    """Every file with its text."""
    for title in RECORDS:
        yield FOLDER / f"{title}.json", json.dumps(schema(title), indent=2) + "\n"


def _as_written(part: Any) -> Any:
    """The schema of a struct as the schema of what is written.

    Ids are strings, unknown keys are allowed, and the bounds that keep NaN and infinity out say
    nothing in JSON, which has neither.
    """
    match part:
        case list():
            return [_as_written(inner) for inner in part]
        case {"pattern": pattern} if pattern == ID_PATTERN:
            return {"type": "string", "pattern": ID_PATTERN}
        case dict():
            return {
                key: cleandoc(inner) if key == "description" else _as_written(inner)
                for key, inner in part.items()
                if (key, inner) != ("additionalProperties", False) and _NO_BOUNDS.get(key) != inner
            }
        case _:
            return part


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages():
        path.write_text(text, encoding="utf-8")

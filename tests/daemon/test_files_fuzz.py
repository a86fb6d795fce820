"""Whatever a configuration or a column map holds, it is read or refused as such: nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.datasets import mapping
from daemon.settings import ConfigurationError, Settings, load
from model.schema import Schema

CONFIG = """
[kafka]
bootstrap = "127.0.0.1:9092"
mechanism = "PLAIN"
[worker]
id = "a"
port = 0
[impressions]
share = 0.5
[value]
bid_power = 1.0
"""
MAP = """
period_days = 3.5
[schema]
item_fields = ["item", "kind", "tree"]
profile_fields = ["age"]
context_fields = ["hour"]
actions = ["buy"]
hash_seed = 7
[schema.derived]
hour = { clock = "hour", zone = "Europe/Berlin" }
tree = { from = "item", path = 1 }
[files.events]
files = "events.parquet"
always = "buy"
fields = { item = "product" }
[files.ads]
files = "ads.parquet"
unit = "s"
"""
DEEP = "a = " + "[" * 5_000

keys = st.sampled_from([*Settings.model_fields, *mapping.DataMap.model_fields, "schema", "fields"])
keys |= st.sampled_from(
    [*Schema.__dataclass_fields__, "events", "ads", "user_id", "unit", "from", "zone"]
)
keys |= st.text(max_size=4)
scalars = st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(keys, trees, max_size=4)


def toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, bool | str) else str(value)


def lines(table: dict[str, Any]) -> bytes:
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in table.items())
    return text.encode(errors="replace")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file that is right, with a few bytes changed, put in or taken out."""
    raw = bytearray(draw(st.sampled_from([CONFIG, MAP])).encode())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=4))
    return bytes(raw)


@contextmanager
def file_of(raw: bytes) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.toml"
        path.write_bytes(raw)
        yield path


@pytest.mark.parametrize("read", [load, mapping.load])
@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=40) | damaged() | tables.map(lines))
@example(raw=DEEP.encode())
def test_any_file_is_read_or_refused(read: Callable[[Path], Any], raw: bytes) -> None:
    with file_of(raw) as path, suppress(ConfigurationError):
        read(path)


def test_what_is_damaged_here_is_right_when_it_is_whole() -> None:
    with file_of(CONFIG.encode()) as path:
        assert load(path).worker.id == "a"
    with file_of(MAP.encode()) as path:
        assert mapping.load(path).period_days == 3.5

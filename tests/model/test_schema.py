"""Claims about schemas: order and seed are part of their identity, and nonsense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.derived import Band, ClockPart, PathSteps
from model.schema import Schema, SchemaInvalid


def test_schema_survives_its_dictionary() -> None:
    derived = {"brand": PathSteps("maker", 2), "hour": ClockPart("hour", "Europe/Berlin")}
    schema = Schema(("product", "brand"), ("age",), ("store", "hour"), ("buy",), 7, derived)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert Schema.from_dict(schema.to_dict()).hash == schema.hash


def test_hash_depends_on_order_and_seed() -> None:
    first = Schema(("product", "brand"))
    assert first.hash != Schema(("brand", "product")).hash
    assert first.hash != Schema(("product", "brand"), hash_seed=1).hash
    bands = [Band("price", edges) for edges in ((1.0, 2.0), (1.0, 3.0))]
    low, high = (Schema(("product", "brand"), derived={"brand": band}) for band in bands)
    assert len({first.hash, low.hash, high.hash}) == 3


def test_load_reads_toml(tmp_path: Path) -> None:
    path = tmp_path / "schema.toml"
    path.write_text('item_fields = ["product"]\nactions = ["buy"]\n')
    schema = Schema.load(path)
    assert schema == Schema(("product",), actions=("buy",))
    assert (schema.action_id("buy"), schema.action_id("look")) == (1, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item_fields = []", "item_fields is empty"),
        ("profile_fields = ['age']", "item_fields is missing"),
        ("item_fields = ['a', 'a']", "twice"),
        ("item_fields = ['a=b']", "contains '='"),
        ("item_fields = 'a'", "not a list of strings"),
        ("item_fields = ['a']\nhash_seed = true", "not an integer"),
        ("item_fields = ['a']\nhash_seed = -1", "not in 0"),
        ("item_fields = ['a']\nitems = 1", "unknown schema keys"),
        ("item_fields = ['a']\nderived = 1", "not a table of tables"),
        ("item_fields = ['a']\n[derived.b]\nfrom = 'c'\npath = 1", "none of the fields"),
        ("item_fields = ['a']\n[derived.a]\nfrom = 'c'\npath = 1", "item itself"),
        ("item_fields = ['a', 'b']\n[derived.b]\nfrom = 'c'", "needs one of path, bands, clock"),
        ("item_fields = ['a', 'b']\n[derived.b]\nfrom = 'c'\npath = 0", "too short"),
        ("item_fields = ['a', 'b']\n[derived.b]\nfrom = 'c'\nbands = [2, 1]", "not ascending"),
        ("item_fields = ['a', 'b']\n[derived.b]\nclock = 'hour'", "belongs in context_fields"),
        (
            "item_fields = ['a']\ncontext_fields = ['b']\n[derived.b]\nclock = 'minute'",
            "allowed: hour, weekday",
        ),
        (
            "item_fields = ['a']\ncontext_fields = ['b']\n[derived.b]\nclock = 'hour'\nzone = 'X'",
            "zone 'X'",
        ),
        (
            "item_fields = ['a', 'b', 'c']\n[derived.b]\nfrom = 'c'\npath = 1\n"
            "[derived.c]\nfrom = 'd'\npath = 1",
            "c is itself derived",
        ),
        ("item_fields = [", "schema.toml"),
    ],
)
def test_bad_schema_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(SchemaInvalid, match=said):
        Schema.load(path)

"""Claims about schemas: order and seed are part of their identity, and nonsense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.schema import Schema, SchemaInvalid


def test_schema_survives_its_dictionary() -> None:
    schema = Schema(("product", "brand"), ("age",), ("store",), ("buy",), 7)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert Schema.from_dict(schema.to_dict()).hash == schema.hash


def test_hash_depends_on_order_and_seed() -> None:
    first = Schema(("product", "brand"))
    assert first.hash != Schema(("brand", "product")).hash
    assert first.hash != Schema(("product", "brand"), hash_seed=1).hash


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
        ("item_fields = [", "schema.toml"),
    ],
)
def test_bad_schema_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(SchemaInvalid, match=said):
        Schema.load(path)

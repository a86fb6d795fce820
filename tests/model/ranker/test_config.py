"""Claims about configurations: they survive JSON, and inconsistent ones never construct."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from model.ranker.config import HstuConfig, MatchPair, RankerConfig
from model.ranker.presets import configure
from model.schema import Schema


def test_config_survives_json(config: RankerConfig) -> None:
    assert RankerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_key_is_refused(config: RankerConfig) -> None:
    values = config.to_dict()
    values["moa"]["depth"] = 3
    with pytest.raises(TypeError, match="depth"):
        RankerConfig.from_dict(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pairs": (MatchPair("product", "colour"),)}, "colour"),
        ({"pairs": ()}, "pairs"),
        ({"history": ("store",)}, "store"),
        ({"ro_query": ("product",)}, "product"),
        ({"nro_query": ("age",)}, "age"),
        ({"popular": ("slot",)}, "slot"),
        ({"answered": ("colour",)}, "colour"),
        ({"answered_in": (("slot", "type"),)}, "slot"),
        ({"answered_in": (("store", "colour"),)}, "colour"),
        ({"width": 0}, "width"),
        ({"table_rows": 1}, "table_rows"),
    ],
)
def test_inconsistent_sources_are_refused_by_name(
    config: RankerConfig, change: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        replace(config.moa, **change)


def test_unusable_sizes_are_refused(config: RankerConfig) -> None:
    with pytest.raises(ValueError, match="dropout"):
        HstuConfig(dropout=1.0)
    with pytest.raises(ValueError, match="history_dropout"):
        replace(config, history_dropout=1.0)
    with pytest.raises(ValueError, match="window_days"):
        MatchPair("product", "product", 0.0)
    with pytest.raises(ValueError, match="task_weights"):
        replace(config, task_weights=(0.0, 0.0))


@pytest.mark.parametrize("preset", ["tiny", "demo", "small", "base", "large"])
def test_presets_take_their_sources_from_the_schema(preset: str, schema: Schema) -> None:
    config, _ = configure(preset, schema, ["product"])  # type: ignore[arg-type]
    assert config.moa.item == schema.item_fields
    assert {pair.history for pair in config.moa.pairs} == {"product"}


def test_unknown_preset_is_refused(schema: Schema) -> None:
    with pytest.raises(ValueError, match="huge"):
        configure("huge", schema, ["product"])  # type: ignore[arg-type]

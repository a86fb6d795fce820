"""Claims about serving: laws of one request, cold starts, and checkpoints that do not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model import checkpoints
from model.features import Encoder, Request
from model.ranker import Ranker
from model.ranker.ranker import KIND
from model.schema import Schema

DAY_MS = 86_400_000
NOW_MS = 70 * DAY_MS

Trained = tuple[Path, dict[str, float]]


@pytest.fixture(scope="module")
def ranker(trained: Trained) -> Ranker:
    return Ranker.load(trained[0])


def ads(encoder: Encoder, products: Sequence[int]) -> np.ndarray:
    return encoder.items(
        [{"product": [f"p{p}"], "type": [f"t{p % 6}"], "slot": ["D"]} for p in products]
    )


def request(encoder: Encoder, bought: Sequence[int], now_ms: int = NOW_MS) -> Request:
    """A user who bought these products, one a day, the last one yesterday."""
    events = [
        (
            NOW_MS - (len(bought) - i) * DAY_MS,
            "buy",
            1.0,
            {"product": [f"p{p}"], "type": [f"t{p % 6}"]},
        )
        for i, p in enumerate(bought)
    ]
    return Request(
        encoder.profile({}), encoder.context({}, now_ms), now_ms, encoder.history(events)
    )


def test_what_was_bought_again_and_again_comes_first(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    scores = ranker.score(request(encoder, [4, 9] * 8), ads(encoder, range(20)))
    assert set(np.argsort(-scores[:, 0])[:2].tolist()) == {4, 9}


def test_score_ignores_the_other_candidates(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    user, items = request(encoder, [1, 2, 3, 1]), ads(encoder, range(25))
    together = ranker.score(user, items)
    order = np.random.default_rng(0).permutation(25)
    np.testing.assert_allclose(ranker.score(user, items[order]), together[order], atol=1e-5)
    for n in (0, 7, 24):
        np.testing.assert_allclose(ranker.score(user, items[n : n + 1])[0], together[n], atol=1e-5)


def test_events_at_or_after_the_request_are_not_read(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    items = ads(encoder, range(10))
    cut = NOW_MS - 2 * DAY_MS
    later = ranker.score(request(encoder, [1, 2, 3, 4, 5], now_ms=cut), items)
    user = request(encoder, [1, 2, 3, 4, 5], now_ms=cut)
    known = replace(user, history=user.history[:3])
    np.testing.assert_array_equal(later, ranker.score(known, items))


def test_an_unknown_user_and_unknown_ads_get_probabilities(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    cold = Request(encoder.profile({}), encoder.context({}, 0), 0, encoder.history([]))
    items = np.concatenate([ads(encoder, [3]), np.zeros((1, 3), np.int64)])
    scores = ranker.score(cold, items)
    assert scores.shape == (2, 2)
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()


def test_no_candidates_are_no_scores(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    assert ranker.score(request(encoder, [1]), np.zeros((0, 3), np.int64)).shape == (0, 2)


def test_a_history_beyond_the_bound_is_cut_to_its_newest(ranker: Ranker) -> None:
    encoder = Encoder(ranker.schema)
    user = request(encoder, [1, 2, 3] * 700)
    newest = replace(user, history=user.history.newest(ranker.config.moa.max_events))
    items = ads(encoder, range(10))
    np.testing.assert_array_equal(ranker.score(user, items), ranker.score(newest, items))


def test_the_version_is_that_of_the_checkpoint(ranker: Ranker, trained: Trained) -> None:
    assert ranker.version == checkpoints.read_manifest(trained[0])["version"]


def test_another_schema_is_refused(trained: Trained, schema: Schema) -> None:
    with pytest.raises(checkpoints.SchemaMismatch):
        Ranker.load(trained[0], replace(schema, hash_seed=1))


@pytest.mark.parametrize("damage", [{"seeds": 7}, {"moa": {}}, {"depth": 1}])
def test_a_configuration_that_does_not_fit_its_weights_is_corrupt(
    trained: Trained, tmp_path: Path, damage: dict[str, object]
) -> None:
    found = checkpoints.read(trained[0], KIND)
    checkpoints.write(
        tmp_path / "odd",
        kind=KIND,
        schema=found.schema,
        config={"model": {**found.config["model"], **damage}},
        metrics={},
        data_window={},
        tensors=found.tensors,
    )
    with pytest.raises(checkpoints.CheckpointCorrupt, match="odd"):
        Ranker.load(tmp_path / "odd")


def test_the_manifest_is_plain_json(trained: Trained) -> None:
    """NaN in metrics would make it unreadable to strict parsers."""
    text = (trained[0] / checkpoints.MANIFEST).read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)

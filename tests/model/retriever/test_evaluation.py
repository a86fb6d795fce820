"""Claims about recall: an item counts once, and chance is what an untrained order gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoints
from model.features import Encoder
from model.retriever import evaluation
from model.retriever.evaluation import recall
from model.retriever.parts import Parts
from model.retriever.periods import PeriodBuilder
from model.retriever.population import Population
from model.retriever.tensors import PeriodTensors, UserTensors
from model.schema import Schema
from model.tables import TrainingTables


@pytest.mark.parametrize("kept", [1, 5, 100])
def test_recall_is_the_share_of_bought_items_in_the_list(
    kept: int,
    world: TrainingTables,
    schema: Schema,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "RECALL_AT", kept)
    parts = Parts.unpack(checkpoints.read(folder, "retriever"))
    builder = PeriodBuilder(Population.of(world, Encoder(schema)), parts.vocabulary, 1024)
    period = builder.build(6, parts.cooccurrence)
    users = UserTensors.of(
        [example.user for example in period.examples], period.values, parts.profiles
    )
    with torch.inference_mode():
        scores = parts.network(PeriodTensors.of(period), users).numpy()
    shares = []
    for row, example in zip(scores, period.examples, strict=True):
        listed: list[int] = []
        for ad in np.argsort(-row):
            item = int(period.items[ad, 0])
            if item not in listed:
                listed.append(item)
        bought = set(period.items[example.bought, 0].tolist())
        shares.append(len(bought & set(listed[:kept])) / len(bought))
    found, count = recall(parts.network, [period], parts.profiles)
    assert count == len(period.examples)
    assert found == pytest.approx(np.mean(shares))


def test_no_period_no_recall(folder: Path) -> None:
    parts = Parts.unpack(checkpoints.read(folder, "retriever"))
    found, count = recall(parts.network, [], parts.profiles)
    assert np.isnan(found)
    assert count == 0

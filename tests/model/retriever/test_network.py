"""Claims about the network's weights."""

from __future__ import annotations

from model.retriever.parts import Parts
from model.retriever.presets import PRESETS
from model.schema import Schema


def test_every_weight_is_optimised_once_and_statistics_never_decay(schema: Schema) -> None:
    network = Parts.network_for(PRESETS["tiny"], schema, rows=9, profile_rows=5)
    groups = network.groups(0.5)
    listed = [id(weights) for group in groups for weights in group["params"]]
    assert sorted(listed) == sorted(id(weights) for weights in network.parameters())
    decaying = {
        id(weights) for group in groups if group["weight_decay"] for weights in group["params"]
    }
    assert id(network.user_tower.history.weight) in decaying
    assert not decaying & {id(weights) for weights in network.hits.parameters()}
    assert not decaying & {id(weights) for weights in network.log_gain.parameters()}

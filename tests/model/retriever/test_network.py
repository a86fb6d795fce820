"""Claims about the network's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from model.features import Encoder
from model.retriever import cooccurrence
from model.retriever.network import Network, Terms
from model.retriever.parts import Parts
from model.retriever.periods import Period, PeriodBuilder
from model.retriever.population import Population
from model.retriever.presets import PRESETS, RetrieverSettings
from model.retriever.tensors import PeriodTensors, UserTensors
from model.retriever.vocabulary import Vocabulary
from model.schema import Schema
from model.tables import TrainingTables

T = TypeVar("T", PeriodTensors, UserTensors)

TINY = PRESETS["tiny"]
WHOLE = Terms()


class World:
    """One period of the small world, and networks for it."""

    def __init__(self, tables: TrainingTables, schema: Schema) -> None:
        population = Population.of(tables, Encoder(schema))
        self.schema = schema
        self.vocabulary = Vocabulary.of(population.values(), 1)
        self.profiles = Vocabulary.of(np.hstack((population.profiles, population.contexts)), 1)
        before_ms = population.periods[-1].start_ms
        pairs = cooccurrence.fit(
            *population.met(before_ms), population.advertised(before_ms), TINY.cooccurrence
        )
        builder = PeriodBuilder(population, self.vocabulary, TINY.history_events)
        self.period: Period = builder.build(len(population.periods) - 1, pairs)
        self.ads = doubled(PeriodTensors.of(self.period))

    def network(self, terms: Terms = WHOLE, seed: int = 0) -> Network:
        torch.manual_seed(seed)
        settings: RetrieverSettings = replace(TINY, network=replace(TINY.network, terms=terms))
        network = Parts.network_for(settings, self.schema, len(self.vocabulary), len(self.profiles))
        return network.double().eval()

    def users(self, *at: int) -> UserTensors:
        sides = [self.period.examples[user].user for user in at]
        return doubled(UserTensors.of(sides, self.period.values, self.profiles))


def doubled(tensors: T) -> T:
    """In float64 where it is float32."""
    return replace(
        tensors,
        **{
            name: value.double()
            for name, value in vars(tensors).items()
            if isinstance(value, Tensor) and value.is_floating_point()
        },
    )


@pytest.fixture(scope="module")
def small(world: TrainingTables, schema: Schema) -> World:
    return World(world, schema)


def test_a_user_alone_scores_as_in_a_batch(small: World) -> None:
    network = small.network()
    together = network(small.ads, small.users(0, 1, 2, 3))
    for user in range(4):
        torch.testing.assert_close(network(small.ads, small.users(user))[0], together[user])


def test_permuting_ads_permutes_scores(small: World) -> None:
    network, users = small.network(), small.users(0, 1, 2)
    order = torch.randperm(len(small.ads.rows))
    permuted = replace(
        small.ads,
        rows=small.ads.rows[order],
        value_at=small.ads.value_at[order],
        factors=small.ads.factors[order],
    )
    torch.testing.assert_close(network(permuted, users), network(small.ads, users)[:, order])


def test_gradient_agrees_with_finite_differences(small: World) -> None:
    """Along random directions through all weights at once, in float64."""
    network, users = small.network(), small.users(0, 1, 2, 3)
    weights = list(network.parameters())
    gradient = torch.autograd.grad(network(small.ads, users).square().mean(), weights)
    for _ in range(3):
        direction = [torch.randn_like(weight) for weight in weights]
        slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
        step, values = 1e-6, []
        for sign in (1.0, -2.0):
            with torch.no_grad():
                for weight, d in zip(weights, direction, strict=True):
                    weight += sign * step * d
                values.append(network(small.ads, users).square().mean())
        with torch.no_grad():
            for weight, d in zip(weights, direction, strict=True):
                weight += step * d
        torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=1e-4, atol=0)


def test_a_handful_of_users_is_learned_by_heart(small: World) -> None:
    """Random purchases: only what can tell every (user, ad) from every other gets there."""
    network, users = small.network().train(), small.users(*range(6))
    bought = torch.rand(6, len(small.ads.rows), generator=torch.Generator().manual_seed(1)) < 0.3
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(200):
        scores = network(small.ads, users)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, bought.double())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01


def no_ipnn(network: Network) -> None:
    assert network.ipnn is not None
    with torch.no_grad():
        network.ipnn.user_weights.zero_()


def no_taste(network: Network) -> None:
    assert network.log_gain is not None
    with torch.no_grad():
        network.log_gain[-1].bias.fill_(-1e9)


def no_hits(network: Network) -> None:
    assert network.hits is not None
    with torch.no_grad():
        network.hits.second.zero_()
        network.hits.second_bias.zero_()


@pytest.mark.parametrize(
    ("terms", "silenced"),
    [
        (Terms(ipnn=False), [no_ipnn]),
        (Terms(taste=False), [no_taste]),
        (Terms(hits=False), [no_hits]),
        (Terms(ipnn=False, taste=False, hits=False), [no_ipnn, no_taste, no_hits]),
    ],
)
def test_a_network_without_a_term_is_the_whole_with_that_term_at_zero(
    small: World, terms: Terms, silenced: list[Callable[[Network], None]]
) -> None:
    """Of the same weights: so that an ablation measures the term and nothing else."""
    whole, ablated = small.network(seed=1), small.network(terms)
    for weights in whole.parameters():
        torch.nn.init.normal_(weights, 0.0, 0.3)
    left = ablated.state_dict().keys()
    ablated.load_state_dict({name: w for name, w in whole.state_dict().items() if name in left})
    users = small.users(0, 1, 2)
    scores = ablated(small.ads, users)
    assert not torch.allclose(scores, whole(small.ads, users)), "the term is idle"
    for silence in silenced:
        silence(whole)
    torch.testing.assert_close(scores, whole(small.ads, users))


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


def test_settings_from_before_there_were_terms_have_all_of_them() -> None:
    """So that older checkpoints are served on."""
    older = TINY.to_dict()
    del older["network"]["terms"]
    assert RetrieverSettings.from_dict(older) == TINY

"""Claims about the loss: its formula pair by pair, and who counts how much."""

from __future__ import annotations

import math

import pytest
import torch

from model.retriever.loss import listwise_loss, pairwise_loss


def by_hand(scores: list[float], values: list[float]) -> float:
    """One user's loss, from the definition."""
    order = sorted(range(len(scores)), key=lambda ad: -scores[ad])
    rank = {ad: place + 1 for place, ad in enumerate(order)}
    bought = [ad for ad, value in enumerate(values) if value > 0]
    ideal = sum(1 / math.log2(place + 2) for place in range(len(bought)))
    total = 0.0
    for i in bought:
        for j in range(len(scores)):
            if values[j] == 0:
                change = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j])) / ideal
                gap = abs(math.log1p(values[i]) - math.log1p(values[j]))
                total += change * gap * math.log1p(math.exp(scores[j] - scores[i]))
    return total / max(len(bought), 1)


def test_loss_is_the_sum_over_pairs() -> None:
    scores = [[0.3, -1.0, 2.0, 0.1, 0.7], [1.0, 0.5, -0.2, 0.0, 0.9]]
    values = [[0.0, 2.5, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]
    found = pairwise_loss(torch.tensor(scores), torch.tensor(values))
    wanted = sum(map(by_hand, scores, values)) / 2
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_gradient_raises_what_was_bought() -> None:
    scores = torch.zeros(1, 6, requires_grad=True)
    values = torch.tensor([[0.0, 0.0, 3.0, 0.0, 0.0, 0.0]])
    pairwise_loss(scores, values).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0, 2] < 0
    assert (scores.grad[0, [0, 1, 3, 4, 5]] > 0).all()


def test_larger_gap_in_value_weighs_more() -> None:
    scores = torch.tensor([[0.0, 1.0]])
    cheap = pairwise_loss(scores, torch.tensor([[1.0, 0.0]]))
    dear = pairwise_loss(scores, torch.tensor([[9.0, 0.0]]))
    assert dear / cheap == pytest.approx(math.log(10) / math.log(2), rel=1e-5)


def test_nothing_bought_is_no_loss_but_a_gradient() -> None:
    scores = torch.ones(2, 3, requires_grad=True)
    loss = pairwise_loss(scores, torch.zeros(2, 3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


def test_listwise_loss_is_the_cross_entropy_of_the_values_shares() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.5, -0.2]])
    values = torch.tensor([[0.0, 2.5, 1.0], [4.0, 0.0, 0.0]])
    logs = torch.log_softmax(scores, dim=1)
    first = (math.log(3.5) * logs[0, 1] + math.log(2) * logs[0, 2]) / math.log(7)
    wanted = -(first + logs[1, 0]) / 2
    assert listwise_loss(scores, values).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_nothing_bought_costs_nothing_listwise() -> None:
    assert listwise_loss(torch.randn(2, 4), torch.zeros(2, 4)).item() == 0

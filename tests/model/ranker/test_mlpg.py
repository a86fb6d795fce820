"""Claims about MLPG: logits add up, gates are per example and dimension, and are reported."""

from __future__ import annotations

import torch

from model.ranker.mlpg import Mlpg


def test_logits_are_the_sum_of_all_branches() -> None:
    mlpg = Mlpg(main=4, gated=[3, 5], hidden=6, tasks=2)
    main, z = torch.randn(7, 4), [torch.randn(7, 3), torch.randn(7, 5)]
    logits, _ = mlpg(main, z)
    parts = [branch(part)[0] for branch, part in zip(mlpg.gated, z, strict=True)]
    torch.testing.assert_close(logits, mlpg.main(main) + sum(parts))


def test_gates_are_per_example_and_dimension() -> None:
    mlpg = Mlpg(main=4, gated=[3], hidden=6, tasks=2)
    _, (gate,) = mlpg(torch.randn(7, 4), [torch.randn(7, 3)])
    assert gate.shape == (7, 3)
    assert ((gate > 0) & (gate < 1)).all()
    assert gate.std(0).min() > 0
    assert gate.std(1).min() > 0


def test_a_closed_gate_leaves_only_the_plain_input() -> None:
    mlpg = Mlpg(main=4, gated=[3], hidden=6, tasks=2)
    (branch,) = mlpg.gated
    with torch.no_grad():
        branch.gate.bias.fill_(-1e4)
    z = torch.randn(5, 3)
    logits, _ = branch(z)
    torch.testing.assert_close(logits, branch.mlp(torch.cat([torch.zeros_like(z), z], -1)))

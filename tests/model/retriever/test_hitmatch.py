"""Claims about HitMatch: a value's weight depends on its field and its own numbers only."""

from __future__ import annotations

import torch

from model.retriever.hitmatch import HitMatch


def test_weight_of_a_value_ignores_the_other_values() -> None:
    torch.manual_seed(0)
    hits = HitMatch(fields=3, inputs=5, hidden=4)
    inputs, fields = torch.randn(20, 5), torch.randint(0, 3, (20,))
    together = hits(inputs, fields)
    alone = torch.cat([hits(inputs[at : at + 1], fields[at : at + 1]) for at in range(20)])
    torch.testing.assert_close(together, alone)
    order = torch.randperm(20)
    torch.testing.assert_close(hits(inputs[order], fields[order]), together[order])


def test_fields_have_their_own_functions() -> None:
    torch.manual_seed(0)
    hits = HitMatch(fields=3, inputs=5, hidden=4)
    inputs = torch.randn(1, 5).expand(3, 5)
    assert len(set(hits(inputs, torch.arange(3)).tolist())) == 3


def test_no_value_no_weight() -> None:
    found = HitMatch(2, 3, 4)(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert found.shape == (0,)

"""Claims about embeddings: one table for both sides, missing is zero, bins tell none from zero."""

from __future__ import annotations

import torch

from model.ranker.embedding import BinnedSignals, SharedEmbedding, TokenFuse


def test_missing_is_zero_and_never_learns() -> None:
    table = SharedEmbedding(rows=8, width=3)
    out = table(torch.tensor([0, 5]))
    assert torch.equal(out[0], torch.zeros(3))
    out.sum().backward()
    assert table.weight.grad is not None
    assert not table.weight.grad[0].any()


def test_no_value_reads_the_missing_row() -> None:
    table = SharedEmbedding(rows=8, width=3)
    assert table(torch.arange(1, 200)).abs().sum(-1).min() > 0
    assert table(torch.tensor([2**63 - 1])).abs().sum() > 0


def test_an_event_and_a_candidate_share_their_value_s_row() -> None:
    """The token of an event moves when the table learns from a candidate."""
    table, fuse = SharedEmbedding(16, 4), TokenFuse(2, 4, 2, 6, "concat")
    ids = torch.tensor([[[3, 7]]])
    before = fuse.events(table(ids), torch.tensor([[1]]), torch.tensor([[2.0]]))
    fuse.candidates(table(ids)).sum().backward()
    with torch.no_grad():
        assert table.weight.grad is not None
        table.weight -= table.weight.grad
    after = fuse.events(table(ids), torch.tensor([[1]]), torch.tensor([[2.0]]))
    assert not torch.allclose(before, after)


def test_a_candidate_s_placeholder_is_no_event_s_action() -> None:
    fuse = TokenFuse(2, 4, 3, 6, "concat")
    fuse.candidates(torch.randn(1, 2, 4)).sum().backward()
    assert fuse.actions.weight.grad is not None
    assert not fuse.actions.weight.grad[:3].any()
    assert fuse.actions.weight.grad[3].any()


def test_sum_fusion_ignores_which_field_a_value_stands_in() -> None:
    fuse = TokenFuse(2, 4, 2, 6, "sum")
    fields = torch.randn(1, 2, 4)
    assert torch.allclose(fuse.candidates(fields), fuse.candidates(fields.flip(1)))


def test_none_zero_and_endless_signals_have_bins_of_their_own() -> None:
    signals = BinnedSignals(signals=2, bins=24, width=3)
    out = signals(torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1e9, 1e9], [1e12, 1e12]]))[:, :6]
    assert len(torch.unique(out[:3], dim=0)) == 3
    assert torch.equal(out[2], out[3])
    assert not torch.equal(out[0, :3], out[0, 3:])

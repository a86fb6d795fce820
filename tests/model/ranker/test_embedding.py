"""Claims about embeddings: one table for both sides, missing is zero, none is no value."""

from __future__ import annotations

import numpy as np
import torch

from model.ranker.embedding import QuantileSignals, SharedEmbedding, TokenFuse


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


def fitted(seen: np.ndarray, bins: int = 8) -> QuantileSignals:
    torch.manual_seed(0)
    signals = QuantileSignals(signals=seen.shape[1], bins=bins, width=3)
    signals.fit(seen)
    return signals


def test_a_signal_reads_as_its_normal_score() -> None:
    """Whatever its distribution, what the network is given is about a standard normal."""
    seen = np.random.default_rng(0).lognormal(0.0, 3.0, (5_000, 1))
    score = fitted(seen, bins=32)(torch.from_numpy(seen).float())[:, -1]
    assert abs(score.mean().item()) < 0.05
    assert abs(score.std().item() - 1.0) < 0.1
    order = np.argsort(seen[:, 0])
    assert (np.diff(score.detach().numpy()[order]) >= 0).all()


def test_no_signal_is_none_of_its_values() -> None:
    seen = np.random.default_rng(0).normal(size=(100, 2))
    asked = [[torch.nan, torch.nan], [0.0, 0.0], [-9.0, -9.0]]
    out = fitted(seen)(torch.tensor(asked))
    assert out.isfinite().all()
    assert len(torch.unique(out[:, :3], dim=0)) == 3


def test_signals_do_not_jump_and_end_at_their_outermost_quantiles() -> None:
    seen = np.random.default_rng(0).normal(size=(100, 1))
    signals = fitted(seen)
    edge = signals.edges[0, 3].item()
    near = signals(torch.tensor([[edge - 1e-5], [edge + 1e-5]]))
    torch.testing.assert_close(near[0], near[1], atol=1e-3, rtol=0)
    ends = signals(torch.tensor([[seen.max()], [1e9], [float("inf")]], dtype=torch.float32))
    torch.testing.assert_close(ends[1:], ends[:1].expand(2, -1))


def test_a_signal_that_never_varies_or_never_exists_is_legal() -> None:
    seen = np.stack([np.full(50, 3.0), np.full(50, np.nan)], 1)
    out = fitted(seen)(torch.tensor([[3.0, torch.nan], [5.0, 1.0]]))
    assert out.isfinite().all()


def test_most_frequent_values_take_one_edge() -> None:
    """Nine rows of ten have no match: the other bins are for the tenth."""
    seen = np.concatenate([np.zeros(900), np.arange(1, 101)])[:, None]
    edges = fitted(seen, bins=4).edges[0]
    assert edges.isfinite().all()
    assert (edges == 0).sum() == 1
    assert edges[1] < 40

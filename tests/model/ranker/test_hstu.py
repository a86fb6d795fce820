"""Claims about target-aware self-attention: one mask, one constant, a bounded reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.ranker.config import HstuConfig
from model.ranker.hstu import Hstu, HstuLayer, Windows, band, time_bucket

CONFIG = HstuConfig(
    layers=3, heads=2, query_width=3, value_width=5, window=4, normaliser=3.0, dropout=0.0
)
WIDTH, EVENTS, CANDIDATES = 7, 30, 5


@pytest.fixture
def hstu() -> Hstu:
    torch.manual_seed(0)
    return Hstu(WIDTH, CONFIG).double().eval()


@pytest.fixture
def history() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, EVENTS, WIDTH, generator=random).double()
    time_s = torch.rand(1, EVENTS, generator=random).double().cumsum(1) * 100_000
    return tokens, time_s


def attend(
    hstu: Hstu, tokens: torch.Tensor, time_s: torch.Tensor, targets: torch.Tensor, prefix: int
) -> torch.Tensor:
    windows = Windows.before(torch.zeros(1, dtype=torch.int64), torch.tensor([prefix]), 4)
    now_s = torch.tensor([4_000_000.0], dtype=torch.float64)
    return hstu.attend(targets, hstu.remember(tokens, time_s), time_s, windows, now_s)


def full_attention(
    hstu: Hstu, tokens: torch.Tensor, time_s: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """The published form: history and candidates as one sequence under one dense mask."""
    n, candidates = tokens.shape[0], targets.shape[0]
    x = torch.cat([tokens, targets])
    index = torch.arange(n + candidates).clamp(max=n)
    distance = index[:, None] - index[None]
    itself = torch.eye(n + candidates, dtype=torch.bool)
    mask = itself | ((distance > 0) & (distance <= CONFIG.window))
    times = torch.cat([time_s, torch.full((candidates,), 4_000_000.0)])
    buckets = time_bucket((times[:, None] - times[None]).float())
    for layer in hstu.stack:
        x = dense_layer(layer, x, distance.clamp(0, CONFIG.window), buckets, mask)
    return x[n:]


def dense_layer(
    layer: HstuLayer,
    x: torch.Tensor,
    distance: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    parts = nn.functional.silu(layer.project_in(layer.norm_in(x))).split(layer.split, -1)
    u, v, q, k = (part.unflatten(-1, (CONFIG.heads, -1)) for part in parts)
    bias = layer.bias.position[distance] + layer.bias.time[buckets]
    scores = torch.einsum("ihq,jhq->ijh", q, k) + bias
    weights = nn.functional.silu(scores) / CONFIG.normaliser * mask[..., None]
    mixed = torch.einsum("ijh,jhv->ihv", weights, v).flatten(1)
    return x + layer.project_out(layer.norm_out(mixed) * u.flatten(1))


@pytest.mark.parametrize("prefix", [0, 1, 3, 4, 5, 13, EVENTS])
def test_chunked_attention_equals_one_dense_masked_sequence(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor], prefix: int
) -> None:
    tokens, time_s = history
    targets = torch.randn(1, CANDIDATES, WIDTH).double()
    torch.testing.assert_close(
        attend(hstu, tokens, time_s, targets, prefix)[0],
        full_attention(hstu, tokens[0, :prefix], time_s[0, :prefix], targets[0]),
    )


@pytest.mark.parametrize("events", [1, 2, 3, 4, 5])
def test_histories_within_the_window_cost_their_own_length_and_are_the_same(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor], events: int
) -> None:
    """What stochastic length saves: neither chunks nor windows are padded to W."""
    tokens, time_s = (one[:, :events] for one in history)
    targets = torch.randn(1, CANDIDATES, WIDTH).double()
    rows, prefixes = torch.zeros(1, dtype=torch.int64), torch.tensor([events])
    windows = Windows.before(rows, prefixes, min(events, CONFIG.window))
    now_s = torch.tensor([4_000_000.0], dtype=torch.float64)
    memory = hstu.remember(tokens, time_s)
    assert memory[0].keys.shape[1] == (events if events <= CONFIG.window else 2 * CONFIG.window)
    torch.testing.assert_close(
        hstu.attend(targets, memory, time_s, windows, now_s)[0],
        full_attention(hstu, tokens[0], time_s[0], targets[0]),
    )


def test_history_rows_never_depend_on_what_comes_after_them(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """So keys and values of an event are final, and can be cached."""
    tokens, time_s = history
    shorter = hstu.remember(tokens[:, :17], time_s[:, :17])
    for whole, part in zip(hstu.remember(tokens, time_s), shorter, strict=True):
        torch.testing.assert_close(whole.keys[:, :17], part.keys[:, :17])
        torch.testing.assert_close(whole.values[:, :17], part.values[:, :17])


def test_candidates_never_see_each_other(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor]
) -> None:
    targets = torch.randn(1, CANDIDATES, WIDTH).double().requires_grad_()
    attend(hstu, *history, targets, 20)[0, 2].sum().backward()
    assert targets.grad is not None
    assert targets.grad[0, 2].any()
    assert not targets.grad[0, [0, 1, 3, 4]].any()


def test_reach_is_exactly_layers_times_window(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """What is older cannot matter, so serving may cut there; the oldest inside still does."""
    tokens, time_s = history[0].requires_grad_(), history[1]
    attend(hstu, tokens, time_s, torch.randn(1, 1, WIDTH).double(), EVENTS).sum().backward()
    assert tokens.grad is not None
    reached = tokens.grad[0].any(-1)
    assert CONFIG.context == 12
    assert reached.tolist() == [False] * (EVENTS - 12) + [True] * 12


def test_padding_on_the_right_changes_nothing(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor]
) -> None:
    tokens, time_s = history
    targets = torch.randn(1, CANDIDATES, WIDTH).double()
    padded = nn.functional.pad(tokens, (0, 0, 0, 9), value=3.0)
    torch.testing.assert_close(
        attend(hstu, tokens, time_s, targets, EVENTS),
        attend(hstu, padded, nn.functional.pad(time_s, (0, 9)), targets, EVENTS),
    )


def test_band_shows_each_row_itself_and_the_window_before_it() -> None:
    distance, mask = band(3, 2, torch.device("cpu"))
    assert mask[1, 0].tolist() == [True, True, True, True, False, False]
    assert mask[1, 2].tolist() == [False, False, True, True, True, True]
    assert mask[0, 1].tolist() == [False, False, False, True, True, False]
    assert distance[0].tolist() == [3, 2, 1, 0, 0, 0]


def test_time_buckets_are_logarithmic_and_bounded() -> None:
    seconds = torch.tensor([0.0, 0.5, 1.0, 60.0, -60.0, 1e30])
    assert time_bucket(seconds).tolist() == [0, 0, 0, 13, 13, 128]


def test_gradients_are_right(hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokens, time_s = history[0][:, :10], history[1][:, :10]
    targets = torch.randn(1, 2, WIDTH).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda events, items: attend(hstu, events, time_s, items, 9),
        (tokens.clone().requires_grad_(), targets),
    )


@pytest.mark.parametrize("prefix", [13, 22, EVENTS])
def test_a_re_run_over_layers_times_window_is_the_whole(
    hstu: Hstu, history: tuple[torch.Tensor, torch.Tensor], prefix: int
) -> None:
    """So a request needs no event before those, and a sliding window is exact."""
    tokens, time_s = history
    targets = torch.randn(1, CANDIDATES, WIDTH).double()
    newest = slice(prefix - CONFIG.context, prefix)
    torch.testing.assert_close(
        attend(hstu, tokens[:, newest], time_s[:, newest], targets, CONFIG.context),
        attend(hstu, tokens, time_s, targets, prefix),
    )

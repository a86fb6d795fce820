"""Claims about both cross-attentions: own history only, zero without one, linear in it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.ranker.cross_attention import CandidateAttention, RequestAttention
from model.ranker.hstu import Windows

WIDTH, QUERY = 6, 4


def windows(*prefixes: int) -> Windows:
    return Windows.before(torch.arange(len(prefixes)), torch.tensor(prefixes), 5)


def test_empty_history_is_a_summary_of_exactly_zero() -> None:
    attention = RequestAttention(seeds=3, query_width=QUERY, width=WIDTH)
    rows = attention.remember(torch.randn(2, 8, WIDTH))
    out = attention(torch.randn(2, 2, QUERY), rows, windows(0, 8))
    assert torch.equal(out[0], torch.zeros(WIDTH))
    assert out[1].any()


def test_empty_history_leaves_the_candidate_its_own_query() -> None:
    """C = 0, so what remains is (1 - z) q."""
    attention = CandidateAttention(QUERY, WIDTH)
    sources = torch.randn(1, 3, 2, QUERY)
    out = attention(sources, attention.remember(torch.randn(1, 8, WIDTH)), windows(0))
    query = attention.pooled(sources.sum(-2))
    gate = torch.sigmoid(attention.gate(torch.cat([query, torch.zeros_like(query)], -1)))
    torch.testing.assert_close(out, (1 - gate) * query)


def test_one_event_is_the_whole_answer() -> None:
    attention = CandidateAttention(QUERY, WIDTH)
    tokens = torch.randn(1, 8, WIDTH)
    answer = attention.attend(torch.randn(1, 3, WIDTH), attention.remember(tokens), windows(1))
    torch.testing.assert_close(answer, attention.value(tokens[:, :1]).expand(1, 3, WIDTH))


def test_events_outside_the_window_never_count() -> None:
    attention = CandidateAttention(QUERY, WIDTH)
    tokens = torch.randn(1, 9, WIDTH)
    other = tokens.clone()
    other[0, [0, 1, 7, 8]] += 1.0
    sources = torch.randn(1, 3, 2, QUERY)
    assert torch.equal(
        attention(sources, attention.remember(tokens), windows(7)),
        attention(sources, attention.remember(other), windows(7)),
    )


@pytest.mark.parametrize("per_candidate", [False, True])
def test_cost_is_linear_in_the_history(per_candidate: bool) -> None:
    def operations(events: int) -> int:
        module: RequestAttention | CandidateAttention
        queries = torch.randn(2, 5, 3, QUERY) if per_candidate else torch.randn(2, 3, QUERY)
        module = (
            CandidateAttention(QUERY, WIDTH) if per_candidate else RequestAttention(4, QUERY, WIDTH)
        )
        whole = Windows.before(torch.arange(2), torch.full((2,), events), events)
        with FlopCounterMode(display=False) as counter:
            module(queries, module.remember(torch.randn(2, events, WIDTH)), whole)
        return int(counter.get_total_flops())

    once, twice, thrice = (operations(events) for events in (64, 128, 192))
    assert twice - once == thrice - twice > 0

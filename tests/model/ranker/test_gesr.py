"""Laws of the whole model, on random inputs and in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.ranker.batches import Batch
from model.ranker.config import TWO_TOWER, Parts, RankerConfig
from model.ranker.gesr import Gesr
from model.ranker.hstu import Hstu
from model.ranker.inputs import Inputs
from model.ranker.presets import Preset, configure
from model.ranker.signals import names
from model.ranker.train import task_loss
from model.schema import Schema

ACTION_IDS = 3
HISTORY = ("product", "type")
PER_VISIT = ("rows", "prefixes", "now_s", "profile", "context", "items", "counts", "signals")
PER_HISTORY = ("history", "actions", "values", "time_s")
PER_CANDIDATE = ("items", "counts", "signals")

Draw = Callable[..., Inputs]


@pytest.fixture
def model(config: RankerConfig) -> Gesr:
    return build(config)


def build(config: RankerConfig) -> Gesr:
    torch.manual_seed(0)
    model = Gesr(config, ACTION_IDS).double().eval()
    seen = np.random.default_rng(0).integers(0, 60, (200, len(names(config.moa))))
    model.moa.fit_signals(seen.astype(float))
    return model


def pick(inputs: Inputs, names: tuple[str, ...], at: Callable[[Tensor], Tensor]) -> Inputs:
    return replace(inputs, **{name: at(getattr(inputs, name)) for name in names})


def test_permuting_candidates_permutes_logits(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    order = torch.randperm(inputs.items.shape[1])
    permuted = pick(inputs, PER_CANDIDATE, lambda t: t[:, order])
    torch.testing.assert_close(model(permuted).logits, model(inputs).logits[:, order])


def test_a_candidate_alone_scores_as_it_does_among_others(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    together = model(inputs).logits
    for g in range(inputs.items.shape[1]):
        alone = pick(inputs, PER_CANDIDATE, lambda t, g=g: t[:, g : g + 1])
        torch.testing.assert_close(model(alone).logits[:, 0], together[:, g])


def test_a_visit_alone_scores_as_it_does_in_a_batch(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    together = model(inputs).logits
    for v in range(len(inputs.rows)):
        alone = pick(inputs, PER_VISIT, lambda t, v=v: t[v : v + 1])
        torch.testing.assert_close(model(alone).logits[0], together[v])


def test_events_after_the_prefix_change_nothing(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    """A target in a batch sees its own prefix, though its history goes on."""
    inputs = draw_inputs(config)
    v = int(inputs.prefixes.argmax())
    cut = int(inputs.prefixes[v]) // 2
    inputs = replace(pick(inputs, PER_VISIT, lambda t: t[v : v + 1]), prefixes=torch.tensor([cut]))
    other = replace(
        inputs,
        history=torch.cat([inputs.history[:, :cut], inputs.history[:, cut:] + 1], 1),
        actions=torch.cat([inputs.actions[:, :cut], 2 - inputs.actions[:, cut:]], 1),
        values=torch.cat([inputs.values[:, :cut], -inputs.values[:, cut:]], 1),
    )
    torch.testing.assert_close(model(other).logits, model(inputs).logits)


def test_a_visit_without_its_history_reads_counts_and_signals_alone(
    config: RankerConfig, draw_inputs: Draw
) -> None:
    """In training, with a share of history_dropout; never when it is served."""
    deaf = replace(config, hstu=replace(config.hstu, dropout=0.0), history_dropout=0.9999)
    inputs = draw_inputs(config)
    other = replace(inputs, values=-inputs.values, actions=2 - inputs.actions)
    model = build(deaf)
    heard = inputs.prefixes > 0
    assert not torch.isclose(model(inputs).logits, model(other).logits)[heard].any()
    assert torch.equal(model(inputs).logits, build(config)(inputs).logits)
    model.train()
    assert torch.equal(model(inputs).logits, model(other).logits)


def test_a_re_run_over_layers_times_window_is_the_whole(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    """Attention, self and cross, reaches back so far and no farther: older events are counts."""
    inputs = draw_inputs(config)
    whole = model(inputs).logits
    reach = config.hstu.context
    assert int(inputs.prefixes.max()) > reach
    for v, prefix in enumerate(inputs.prefixes.tolist()):
        row, newest = int(inputs.rows[v]), slice(max(prefix - reach, 0), max(prefix, 1))
        events = {name: getattr(inputs, name)[row, newest][None] for name in PER_HISTORY}
        visit = {name: getattr(inputs, name)[v, None] for name in PER_VISIT}
        own = {"rows": torch.tensor([0]), "prefixes": torch.tensor([min(prefix, reach)])}
        alone = replace(inputs, **(visit | events | own))
        torch.testing.assert_close(model(alone).logits[0], whole[v])


def test_ro_outputs_depend_on_no_candidate(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    other = pick(inputs, PER_CANDIDATE, lambda t: t.flip(1) + 1)
    first, second = model.moa(inputs), model.moa(other)
    assert torch.equal(first.profile, second.profile)
    assert torch.equal(first.summary, second.summary)


def test_history_fields_stand_where_the_candidates_same_fields_stand(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    """So their order in the events means nothing, and one projection serves both sides."""
    turned = replace(config, moa=replace(config.moa, history=config.moa.history[::-1]))
    other = build(turned)
    other.load_state_dict(model.state_dict())
    inputs = draw_inputs(config)
    flipped = replace(inputs, history=inputs.history.flip(-1))
    torch.testing.assert_close(other(flipped).logits, model(inputs).logits)


def test_every_source_reaches_the_logits(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    """A part that is wired to nothing would pass every other law."""
    inputs = draw_inputs(config)
    v = int(inputs.prefixes.argmax())
    before = model(inputs).logits[v]
    for field in fields(Inputs):
        if field.name in ("rows", "prefixes"):
            continue
        values = getattr(inputs, field.name)
        step = 100_000.0 if field.name == "now_s" else 1
        changed = replace(inputs, **{field.name: _moved(field.name, values, step)})
        assert not torch.allclose(model(changed).logits[v], before), field.name


def _moved(name: str, values: Tensor, step: float) -> Tensor:
    if name == "actions":
        return (values + 1) % ACTION_IDS
    if name == "time_s":
        return values * 0.5
    return values + step


def test_every_parameter_learns(config: RankerConfig, draw_inputs: Draw) -> None:
    torch.manual_seed(0)
    moa = replace(config.moa, hma_into_attention=True)
    model = Gesr(replace(config, moa=moa), ACTION_IDS).double()
    model(draw_inputs(config)).logits.square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    "parts",
    [
        TWO_TOWER,
        replace(TWO_TOWER, match=True),
        Parts(signals=False),
        Parts(self_attention="last"),
        Parts(self_attention="none"),
        Parts(cross_attention="none"),
        Parts(gates=False),
    ],
)
def test_a_model_without_a_part_learns_all_that_it_has(
    config: RankerConfig, draw_inputs: Draw, parts: Parts
) -> None:
    model = build(replace(config, parts=parts))
    scores = model(draw_inputs(config))
    assert bool(scores.gates) == parts.gates
    scores.logits.square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in build(config).parameters()
    ) or parts == Parts(self_attention="last")


def without_match(model: Gesr) -> None:
    assert model.moa.match is not None
    model.moa.match.register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))


def without_candidate_attention(model: Gesr) -> None:
    assert model.moa.candidate_attention is not None
    model.moa.candidate_attention.register_forward_hook(
        lambda module, inputs, out: torch.zeros_like(out)
    )


def without_cross_attention(model: Gesr) -> None:
    without_candidate_attention(model)
    assert model.moa.request_attention is not None
    model.moa.request_attention.register_forward_hook(
        lambda module, inputs, out: torch.zeros_like(out)
    )


def without_self_attention(model: Gesr) -> None:
    model.moa._attend = lambda hstu, tokens, events, inputs: torch.zeros_like(tokens)


def without_target(model: Gesr) -> None:
    """U_self[-1] of each visit's own history, alone and through the dense layers, for everybody."""

    def attend(hstu: Hstu, tokens: Tensor, events: Tensor, inputs: Inputs) -> Tensor:
        out = torch.zeros_like(tokens)
        for v, (row, prefix) in enumerate(zip(inputs.rows, inputs.prefixes, strict=True)):
            if prefix:
                alone, time_s = events[row, None, :prefix], inputs.time_s[row, None, :prefix]
                out[v] = hstu.rows(alone, time_s)[0, -1]
        return out

    model.moa._attend = attend


def without_gates(model: Gesr) -> None:
    for branch in model.overarch.gated:
        branch.register_forward_hook(lambda module, inputs, out: (torch.zeros_like(out[0]), out[1]))


@pytest.mark.parametrize(
    ("parts", "replaced"),
    [
        (Parts(match=False), without_match),
        (Parts(cross_attention="request"), without_candidate_attention),
        (Parts(cross_attention="none"), without_cross_attention),
        (Parts(self_attention="none"), without_self_attention),
        (Parts(self_attention="last"), without_target),
    ],
)
def test_a_model_without_a_part_is_gesr_with_its_output_replaced(
    config: RankerConfig, draw_inputs: Draw, parts: Parts, replaced: Callable[[Gesr], None]
) -> None:
    """Of the same weights: so that an ablation measures the part and nothing else."""
    whole, ablated = build(config), build(replace(config, parts=parts))
    ablated.load_state_dict(whole.state_dict(), strict=False)
    inputs = draw_inputs(config)
    assert not torch.allclose(ablated(inputs).logits, whole(inputs).logits), "the part is idle"
    replaced(whole)
    torch.testing.assert_close(ablated(inputs).logits, whole(inputs).logits)


def test_without_signals_t_match_is_that_of_counts_alone(
    config: RankerConfig, draw_inputs: Draw
) -> None:
    whole, ablated = build(config), build(replace(config, parts=Parts(signals=False)))
    assert whole.moa.match is not None
    assert ablated.moa.match is not None
    first = "moa.match.mlp.0.weight"
    state = whole.state_dict()
    counted = ablated.state_dict()[first].shape[1]
    ablated.load_state_dict(state | {first: state[first][:, :counted]}, strict=False)
    with torch.no_grad():
        whole.moa.match.mlp[0].weight[:, counted:] = 0.0
    inputs = draw_inputs(config)
    torch.testing.assert_close(ablated(inputs).logits, whole(inputs).logits)


def test_without_mlpg_one_plain_mlp_reads_what_all_branches_read(
    config: RankerConfig, draw_inputs: Draw
) -> None:
    """Its main logits with weights of 0 for what the branches read are the whole's main logits."""
    whole, ablated = build(config), build(replace(config, parts=Parts(gates=False)))
    first = "overarch.main.mlp.0.weight"
    state, wider = whole.state_dict(), ablated.state_dict()[first]
    own = state[first].shape[1]
    assert wider.shape[1] - own == 4 * config.moa.width, "target, T_match and summary"
    placed = torch.zeros_like(wider)
    placed[:, :own] = state[first]
    ablated.load_state_dict(
        {name: value for name, value in state.items() if ".gated." not in name} | {first: placed}
    )
    inputs = draw_inputs(config)
    assert not torch.allclose(ablated(inputs).logits, whole(inputs).logits)
    without_gates(whole)
    torch.testing.assert_close(ablated(inputs).logits, whole(inputs).logits)
    with torch.no_grad():
        ablated.overarch.main.mlp[0].weight[:, own:] = 1.0
    assert not torch.allclose(ablated(inputs).logits, whole(inputs).logits), "it reads them"


def test_without_target_awareness_all_candidates_get_what_the_newest_event_has_seen(
    config: RankerConfig, draw_inputs: Draw
) -> None:
    model = build(replace(config, parts=Parts(self_attention="last")))
    inputs = draw_inputs(config)
    itself = model.moa(inputs).target[..., : config.moa.width]
    torch.testing.assert_close(itself, itself[:, :1].expand_as(itself))
    assert not itself[inputs.prefixes == 0].any()
    v = int(inputs.prefixes.argmax())
    cut = int(inputs.prefixes[v])
    row, events = inputs.rows[v], slice(None, cut)
    moa = model.moa
    assert moa.hstu is not None
    tokens = moa.fuse.events(
        moa._event_fields(inputs.history[row : row + 1, events]),
        inputs.actions[row : row + 1, events],
        inputs.values[row : row + 1, events],
    )
    newest = moa.hstu.rows(tokens, inputs.time_s[row : row + 1, events])[0, -1]
    torch.testing.assert_close(itself[v, 0], newest)


def test_two_towers_see_nothing_across_but_the_sum_of_their_products(
    config: RankerConfig, draw_inputs: Draw
) -> None:
    """Counts and signals are cross features: a two-tower model has none."""
    model = build(replace(config, parts=TWO_TOWER))
    inputs = draw_inputs(config)
    other = replace(inputs, counts=inputs.counts + 1, signals=inputs.signals + 1)
    assert torch.equal(model(inputs).logits, model(other).logits)


@pytest.mark.parametrize("preset", ["small", "base", "large"])
def test_every_preset_takes_a_step(preset: Preset, schema: Schema, draw_inputs: Draw) -> None:
    config, _ = configure(preset, schema, HISTORY)
    torch.manual_seed(0)
    model = Gesr(config, ACTION_IDS)
    inputs = draw_inputs(config)
    floats = ("values", "signals")
    inputs = replace(inputs, **{name: getattr(inputs, name).float() for name in floats})
    model.moa.fit_signals(inputs.signals.flatten(0, 1).numpy())
    logits = model(inputs).logits
    logits.square().sum().backward()
    assert logits.isfinite().all()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_an_empty_history_gives_finite_logits(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    cold = replace(inputs, prefixes=torch.zeros_like(inputs.prefixes))
    scores = model(cold)
    assert scores.logits.isfinite().all()
    scores.logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("hma_into_attention", [False, True])
@pytest.mark.parametrize("fuse", ["concat", "sum"])
def test_gradient_agrees_with_finite_differences(
    config: RankerConfig, draw_inputs: Draw, hma_into_attention: bool, fuse: str
) -> None:
    """Along random directions through all parameters at once."""
    torch.manual_seed(0)
    moa = replace(config.moa, hma_into_attention=hma_into_attention, fuse=fuse)
    model = Gesr(replace(config, moa=moa), ACTION_IDS).double().eval()
    inputs = draw_inputs(config)
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(model(inputs).logits.square().sum(), parameters)
    for _ in range(3):
        direction = [torch.randn_like(p) for p in parameters]
        # The missing value's row is fixed by definition, not by its gradient alone.
        direction[[p is model.moa.embedding.weight for p in parameters].index(True)][0] = 0.0
        slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
        step, values = 1e-6, []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p += sign * step * d
                values.append(model(inputs).logits.square().sum())
                for p, d in zip(parameters, direction, strict=True):
                    p -= sign * step * d
        torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=1e-4, atol=0)


def test_padded_candidates_never_enter_the_loss(
    model: Gesr, config: RankerConfig, draw_inputs: Draw
) -> None:
    inputs = draw_inputs(config)
    logits = model(inputs).logits
    weights = torch.ones(logits.shape[:2], dtype=torch.float64)
    weights[:, 3:] = 0.0
    labels = torch.zeros_like(logits)
    rows = torch.zeros(logits.shape[:2]).long().numpy()
    tasks = torch.tensor([1.0, 0.5], dtype=torch.float64)
    whole = task_loss(logits, Batch(inputs, labels, weights, rows), tasks)
    labels[:, 3:] = 1.0
    assert torch.equal(whole, task_loss(logits, Batch(inputs, labels, weights, rows), tasks))


def test_a_handful_of_visits_is_learned_by_heart(config: RankerConfig, draw_inputs: Draw) -> None:
    """Random labels: only a model that can tell every candidate from every other gets there."""
    model = build(replace(config, hstu=replace(config.hstu, dropout=0.0))).train()
    inputs = draw_inputs(config)
    shape = (*inputs.items.shape[:2], 2)
    labels = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).double()
    batch = Batch(inputs, labels, torch.ones(shape[:2]).double(), np.zeros(shape[:2], np.int64))
    tasks = torch.tensor([1.0, 1.0], dtype=torch.float64)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss = task_loss(model(inputs).logits, batch, tasks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01

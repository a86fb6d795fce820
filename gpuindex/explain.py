"""Explanations: what one ad of a view is to one query, rule by rule and part by part.

Owns the account of a score and of a refusal. Promises the search's own numbers: the parts of an
eligible ad add up to the score that `IndexView.search` gives it, and its rank is its place in an
answer without an end. A look of a person's, not for every request: it reads a shard's lists
through and orders every eligible ad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Int32, Int64, UInt8
from .kernels.cpu.compact import carried
from .kernels.cpu.draws import draw
from .kernels.cpu.shards import PAGE_SLOTS
from .query import IntegerQuery, Query, to_integers
from .targeting import EVERYONE, Rule

if TYPE_CHECKING:
    from .view import AdState, IndexView

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Match:
    """A feature that the ad and the query share.

    Attributes:
        feature: "field=value".
        ad_weight: 1..255, 255 = 1.0.
        query_weight: as quantised.
        points: what it adds to the score.
    """

    feature: str
    ad_weight: int
    query_weight: int
    points: int


@dataclass(frozen=True)
class Explanation:
    """One ad under one query.

    Attributes:
        state: what the view knows of the ad.
        reasons: the rules that keep it out of the answer, empty for none: those of `state`, where
            paced_out is this request's own draw, and targeting.FIELD, filters.FIELD,
            not_a_candidate, excluded, group_limit and, in mode "sparse", no_match.
        matches: the shared features, greatest effect first.
        product: points of the embedding product.
        bias: points of the bias.
        unit: points * unit is the real score.
        rank: its place among the eligible ads, from 1, before any limit; an ad that is not
            eligible has the place that it would have. None for an absent one.
    """

    state: AdState
    reasons: tuple[str, ...]
    matches: tuple[Match, ...]
    product: int
    bias: int
    unit: float
    rank: int | None

    @property
    def points(self) -> int:
        """The score in units: the sum of all parts."""
        return sum(match.points for match in self.matches) + self.product + self.bias


def explain(view: IndexView, ad_id: int, query: Query, within: Int64 | None = None) -> Explanation:
    """Explain an ad's part in the answer to `view.search(query, ..., within)`.

    Raises:
        InvalidQuery: the query does not fit the index.
    """
    integers = to_integers(query, view.feature_count, view.tail.columns.embeddings.shape[1])
    state = view.describe(ad_id, query.now_ms)
    if state.slot is None:
        return Explanation(state, state.reasons, (), 0, 0, integers.unit, None)
    slot = state.slot
    features, weights = _features(view, slot)
    matches = _matches(view, integers, features, weights)
    product, bias = _dense_parts(view, integers, slot) if query.mode == "full" else (0, 0)
    points = sum(match.points for match in matches) + product + bias
    keys = [view.features.key(feature) for feature in features.tolist()]
    better = _better(view, ad_id, points, query, within)
    reasons = [
        *_delivery_reasons(view, state, ad_id, query),
        *_rule_reasons(view, slot, keys, query),
    ]
    if within is not None and ad_id not in within:
        reasons.append("not_a_candidate")
    if ad_id in query.excluded:
        reasons.append("excluded")
    if query.mode == "sparse" and points <= 0:
        reasons.append("no_match")
    group, *groups = view.groups(np.append(np.int32(slot), better)).tolist()
    if query.group_limit is not None and group >= 0 and groups.count(group) >= query.group_limit:
        reasons.append("group_limit")
    rank = len(better) + 1
    return Explanation(state, tuple(reasons), matches, product, bias, integers.unit, rank)


def _features(view: IndexView, slot: int) -> tuple[Int32, UInt8]:
    """What the ad at a slot carries, as [F] int32 features and [F] uint8 weights."""
    tail = view.tail
    if slot >= tail.first_slot:
        own = slice(*tail.bounds[slot - tail.first_slot : slot - tail.first_slot + 2])
        return tail.features[own], tail.weights[own]
    part = view.part_of(slot)
    features, weights = carried(view.table, part, slot - int(view.first_slots[part]))
    return features, weights


def _matches(
    view: IndexView, integers: IntegerQuery, features: Int32, weights: UInt8
) -> tuple[Match, ...]:
    by_feature = dict(zip(integers.features.tolist(), integers.weights.tolist(), strict=True))
    matches = [
        Match(
            feature=view.features.key(feature),
            ad_weight=weight,
            query_weight=by_feature[feature],
            points=integers.multiplier * by_feature[feature] * weight,
        )
        for feature, weight in zip(features.tolist(), weights.tolist(), strict=True)
        if feature in by_feature
    ]
    return tuple(sorted(matches, key=lambda match: (-abs(match.points), match.feature)))


def _dense_parts(view: IndexView, integers: IntegerQuery, slot: int) -> tuple[int, int]:
    """Points of the embedding product and of the bias."""
    columns, first = view.part(view.part_of(slot))
    product = 0
    if len(integers.vector):
        embedding = columns.embeddings[slot - first].astype(np.int64)
        product = int(embedding @ integers.vector.astype(np.int64))
    bias = view.slots.pool.biases[view.slots.pages[slot // PAGE_SLOTS], slot % PAGE_SLOTS]
    # In float32, as the kernel multiplies.
    return product, int(np.rint(bias * np.float32(integers.bias_factor)))


def _delivery_reasons(view: IndexView, state: AdState, ad_id: int, query: Query) -> Iterator[str]:
    yield from (reason for reason in state.reasons if reason != "paced_out")
    assert state.slot is not None
    page = view.slots.pages[state.slot // PAGE_SLOTS]
    pacing = view.slots.pool.states["pacing"][page, state.slot % PAGE_SLOTS]
    if pacing < 1 and draw(query.signed_seed, ad_id) >= pacing:
        yield "paced_out"


def _rule_reasons(view: IndexView, slot: int, keys: list[str], query: Query) -> Iterator[str]:
    columns, first = view.part(view.part_of(slot))
    number = int(columns.targeting[slot - first])
    rules = view.targeting.set(number) if number else EVERYONE
    for rule in rules:
        if not rule.admits(query.audience.get(rule.field, NOTHING)):
            yield f"targeting.{rule.field}"
    for rule in query.filters:
        if not rule.admits(_values(keys, rule)):
            yield f"filters.{rule.field}"


def _values(keys: list[str], rule: Rule) -> frozenset[str]:
    """The ad's values of the field that a rule is about."""
    prefix = f"{rule.field}="
    return frozenset(key.removeprefix(prefix) for key in keys if key.startswith(prefix))


def _better(view: IndexView, ad_id: int, points: int, query: Query, within: Int64 | None) -> Int32:
    """Slots of the eligible ads that come before one of this score and id, group limits apart."""
    # All of them in order is a sort, which the CPU has at hand.
    on_cpu = replace(view, device=None)
    found = on_cpu.search(replace(query, group_limit=None), view.slots.count, within)
    ties = (found.scores == points) & (found.ad_ids < ad_id)
    better: Int32 = found.slots[(found.scores > points) | ties]
    return better

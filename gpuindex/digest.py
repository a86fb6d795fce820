"""Digests: whether two indexes hold the same ads in the same states.

A hash of each living ad is of what its records said, names and not numbers, so
it does not depend on shards, slots, or the order in which ads and features
came. Hashes are added up, so a digest does not either. Embeddings are hashed
apart: a model's last bit may depend on the batch in which it embedded an ad.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from .arrays import Int64, UInt64
from .kernels.cpu.digest import chain, chain_bytes, sum_postings
from .kernels.cpu.shards import PAGE_SLOTS
from .targeting import Targeting
from .view import IndexView

# Ads by id modulo this have digests of their own: to find the ads that differ,
# only those of the parts that differ need to be listed.
PARTS = 256

_STATE_FIELDS = ("start_ms", "end_ms", "pacing", "bid", "gate")


@dataclass(frozen=True, eq=False)
class AdHashes:
    """A hash of each ad that a view sees; n ads, by ascending id.

    Attributes:
        ad_ids: [n] int64.
        states: [n] uint64, of id, version, features, weights, rules, advertiser,
            payload and delivery state.
        embeddings: [n] uint64, of id and embedding.
    """

    ad_ids: Int64
    states: UInt64
    embeddings: UInt64

    def by_part(self, hashes: UInt64) -> UInt64:
        """[PARTS] uint64, the sum of [n] uint64 hashes over the ads of each part."""
        sums = np.zeros(PARTS, np.uint64)
        np.add.at(sums, self.ad_ids % PARTS, hashes)
        return sums

    def within(self, parts: Iterable[int]) -> "AdHashes":
        """Those of some parts."""
        kept = np.isin(self.ad_ids % PARTS, list(parts))
        return AdHashes(self.ad_ids[kept], self.states[kept], self.embeddings[kept])


def ad_hashes(view: IndexView) -> AdHashes:
    """Hash every ad of a view, which takes about a microsecond an ad."""
    names = np.array([_hash(view.features.key(f)) for f in range(view.feature_count)], np.uint64)
    rules = np.array(
        [_hash(_text(view.targeting.set(n))) for n in range(view.targeting_count)], np.uint64
    )
    # The last one is looked up by NO_GROUP, -1.
    groups = np.append(names, np.uint64(0))
    tail = view.tail
    postings = np.zeros(view.slots.count, np.uint64)
    sum_postings(
        view.table,
        tail.first_slot,
        tail.ads,
        tail.bounds,
        tail.features,
        tail.weights,
        names,
        postings,
    )
    parts = [_part(view, number, postings, rules, groups) for number in range(len(view.shards) + 1)]
    ad_ids, states, embeddings = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(ad_ids)
    return AdHashes(ad_ids[order], states[order], embeddings[order])


def _part(
    view: IndexView, number: int, postings: UInt64, rules: UInt64, groups: UInt64
) -> tuple[Int64, UInt64, UInt64]:
    """Ad ids and both hashes of the living ads of a shard or the tail."""
    columns, first = view.part(number)
    ads = view.tail.ads if number == len(view.shards) else view.shards[number].ads
    rows = np.flatnonzero(view.slots.dead[first : first + ads] > view.epoch)
    slots = first + rows
    places = view.slots.pages[slots // PAGE_SLOTS], slots % PAGE_SLOTS
    state = view.slots.pool.states[places]
    ad_ids = columns.ad_ids[rows]
    values = [
        columns.versions[rows],
        postings[slots],
        rules[columns.targeting[rows]],
        groups[columns.groups[rows]],
        *columns.payload[rows].T,
        *(state[field] for field in _STATE_FIELDS),
        view.slots.pool.biases[places],
    ]
    states = ad_ids.astype(np.uint64)
    for value in values:
        chain(states, _bits(value))
    embeddings = ad_ids.astype(np.uint64)
    chain_bytes(embeddings, np.ascontiguousarray(columns.embeddings[rows]).view(np.uint8))
    return ad_ids, states, embeddings


def _bits(values: np.ndarray) -> UInt64:
    """[n] uint64, the values' bits."""
    values = np.ascontiguousarray(values)
    bits: UInt64 = values.view(f"u{values.itemsize}").astype(np.uint64)
    return bits


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _text(targeting: Targeting) -> str:
    """The same for equal sets of rules."""
    rules = (
        (rule.field, None if rule.allow is None else sorted(rule.allow), sorted(rule.deny))
        for rule in targeting
    )
    return repr(sorted(rules, key=lambda rule: rule[0]))

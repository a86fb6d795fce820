"""The index beside a dict: records of all kinds, and what must be found after them."""

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpuindex import (
    AdBatch,
    DeliveryBatch,
    Index,
    IndexSettings,
    IndexView,
    Query,
    Rule,
    explain,
    snapshots,
)
from gpuindex.kernels.cpu.draws import paced
from gpuindex.query import to_integers

SETTINGS = IndexSettings(
    embedding_width=3,
    payload_width=2,
    seal_ads=6,
    compact_deltas=2,
    order_fields=("kind", "brand"),
)
FIELDS = {"brand": ["a", "b", "c"], "kind": ["x", "y"]}
KEYS = [f"{field}={value}" for field, values in FIELDS.items() for value in values]
ALWAYS = np.iinfo(np.int64).max

ad_ids = st.integers(0, 11) | st.integers(2**63 - 3, 2**63 - 1)
rules = st.builds(
    Rule,
    st.sampled_from(["brand", "kind", "unheard"]),
    st.none() | st.frozensets(st.sampled_from(["a", "b", "x"])),
    st.frozensets(st.sampled_from(["b", "c", "y"])),
)
ads = st.fixed_dictionaries(
    {
        "ad_id": ad_ids,
        "version": st.integers(0, 30),
        "features": st.dictionaries(
            st.sampled_from(range(len(KEYS))), st.integers(1, 255) | st.just(255)
        ),
        "embedding": st.lists(st.integers(-128, 127), min_size=3, max_size=3),
        "payload": st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2),
        "targeting": st.none() | st.lists(rules, max_size=2).map(tuple),
        "group": st.integers(-1, 2),
        "deleted": st.just(False),
    }
)
deletes = st.fixed_dictionaries(
    {"ad_id": ad_ids, "version": st.integers(-1, 30), "deleted": st.just(True)}
)
states = st.fixed_dictionaries(
    {
        "ad_id": ad_ids,
        "version": st.integers(-1, 30),
        "reset": st.booleans(),
        "active": st.sampled_from([True, True, False]),
        "start_ms": st.integers(0, 5),
        "end_ms": st.integers(5, 10) | st.just(ALWAYS),
        "budget_left": st.sampled_from([0.0, -1.0, 2.5, np.inf]),
        "pacing": st.sampled_from([0.0, 0.5, 1.0]),
        "bid": st.sampled_from([0.5, 3.0]),
        "bias": st.sampled_from([-1.5, 0.0, 0.25, 32.0]),
    }
)
audiences = st.dictionaries(
    st.sampled_from(["brand", "kind"]), st.frozensets(st.sampled_from(["a", "b", "x", "y"]))
)
queries = st.builds(
    lambda weights, **rest: Query(
        feature_ids=np.array([feature for feature, _ in weights], np.int32),
        weights=np.array([weight for _, weight in weights], np.float32),
        **rest,
    ),
    weights=st.lists(
        st.tuples(st.integers(0, len(KEYS) + 3), st.floats(-3, 3, width=32)), max_size=8
    ),
    vector=st.none()
    | st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3).map(
        lambda values: np.array(values, np.float32)
    ),
    embedding_scale=st.sampled_from([0.01, 1.0]),
    now_ms=st.integers(0, 10),
    seed=st.integers(-5, 2**64),
    bias_weight=st.sampled_from([0.0, 1.0, -0.5]),
    mode=st.sampled_from(["full", "sparse"]),
    audience=audiences,
    filters=st.lists(rules, max_size=2).map(tuple),
    query_bits=st.sampled_from([1, 6, 12]),
    excluded=st.lists(ad_ids, max_size=3).map(lambda ids: np.array(ids, np.int64)),
    group_limit=st.none() | st.integers(1, 3),
)

# Asked after every step.
EVERYDAY = [
    Query(
        feature_ids=np.arange(len(KEYS), dtype=np.int32),
        weights=np.array([1.0, -0.4, 0.3, 0.7, -0.2], np.float32),
        vector=np.array([0.5, -1.0, 0.25], np.float32),
        embedding_scale=0.01,
        now_ms=5,
        seed=1,
        mode=mode,
    )
    for mode in ("full", "sparse")
]

DEFAULT_STATE = {
    "active": True,
    "start_ms": 0,
    "end_ms": ALWAYS,
    "budget_left": np.inf,
    "pacing": 1.0,
    "bid": 1.0,
    "bias": 0.0,
}


@dataclasses.dataclass
class Oracle:
    """What should be known, by ad id."""

    ads: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    versions: dict[int, int] = dataclasses.field(default_factory=dict)
    states: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    state_versions: dict[int, int] = dataclasses.field(default_factory=dict)

    def copy(self) -> "Oracle":
        return Oracle(dict(self.ads), dict(self.versions), dict(self.states), {})

    @staticmethod
    def news(known: dict[int, int], ad_id: int, version: int, *, next_allowed: bool) -> bool:
        if version < 0 and next_allowed and ad_id in known:
            version = known[ad_id] + 1
        if version <= known.get(ad_id, -1):
            return False
        known[ad_id] = version
        return True

    def apply(self, record: dict[str, Any]) -> bool:
        ad_id, deleted = record["ad_id"], record["deleted"]
        if not self.news(self.versions, ad_id, record["version"], next_allowed=deleted):
            return False
        self.ads.pop(ad_id, None)
        if not deleted:
            self.ads[ad_id] = record
        return True

    def deliver(self, record: dict[str, Any]) -> bool:
        ad_id, reset = record["ad_id"], record["reset"]
        if not self.news(self.state_versions, ad_id, record["version"], next_allowed=reset):
            return False
        self.states[ad_id] = DEFAULT_STATE if reset else record
        return True

    def state(self, ad_id: int) -> dict[str, Any]:
        return self.states.get(ad_id, DEFAULT_STATE)

    def eligible(self, ad: dict[str, Any], query: Query) -> bool:
        state = self.state(ad["ad_id"])
        own = {field: set() for field in FIELDS}
        for feature in ad["features"]:
            field, value = KEYS[feature].split("=")
            own[field].add(value)
        seed = np.uint64(query.seed % 2**64).astype(np.int64)
        return (
            state["active"]
            and state["budget_left"] > 0
            and state["start_ms"] <= query.now_ms < state["end_ms"]
            and (state["pacing"] >= 1 or paced(seed, ad["ad_id"]) < state["pacing"])
            and all(
                each.admits(query.audience.get(each.field, frozenset()))
                for each in ad["targeting"] or ()
            )
            and all(each.admits(frozenset(own.get(each.field, ()))) for each in query.filters)
            and ad["ad_id"] not in query.excluded
        )

    def search(self, query: Query, k: int, within: list[int] | None) -> list[tuple[int, int]]:
        integers = to_integers(query, len(KEYS), SETTINGS.embedding_width)
        weights = dict(zip(integers.features.tolist(), integers.weights.tolist(), strict=True))
        found = []
        for ad_id, ad in self.ads.items():
            if within is not None and ad_id not in within:
                continue
            if not self.eligible(ad, query):
                continue
            score = integers.multiplier * sum(
                weights.get(feature, 0) * weight for feature, weight in ad["features"].items()
            )
            if query.mode == "full":
                score += sum(
                    int(v) * e for v, e in zip(integers.vector, ad["embedding"], strict=False)
                )
                bias = np.float32(self.state(ad_id)["bias"])
                score += int(np.rint(bias * np.float32(integers.bias_factor)))
            if query.mode == "full" or score > 0:
                found.append((-score, ad_id))
        kept: list[tuple[int, int]] = []
        of_group: Counter[int] = Counter()
        for negated, ad_id in sorted(found):
            group = self.ads[ad_id]["group"]
            of_group[group] += 1
            if query.group_limit is None or group < 0 or of_group[group] <= query.group_limit:
                kept.append((ad_id, -negated))
        return kept[:k]


def ad_batch(records: list[dict[str, Any]]) -> AdBatch:
    features = [record.get("features", {}) for record in records]
    return AdBatch(
        ad_ids=np.array([record["ad_id"] for record in records], np.int64),
        versions=np.array([record["version"] for record in records], np.int64),
        deleted=np.array([record["deleted"] for record in records], np.bool_),
        feature_offsets=np.cumsum([0] + [len(each) for each in features]).astype(np.int32),
        feature_ids=np.array([f for each in features for f in each], np.int32),
        weights=np.array([w for each in features for w in each.values()], np.uint8),
        embeddings=np.array([r.get("embedding", [0] * 3) for r in records], np.int8),
        payload=np.array([r.get("payload", [0] * 2) for r in records], np.int64),
        targeting=[record.get("targeting") for record in records],
        groups=np.array([record.get("group", -1) for record in records], np.int32),
    )


def delivery_batch(records: list[dict[str, Any]]) -> DeliveryBatch:
    dtypes = {
        "ad_id": np.int64,
        "version": np.int64,
        "reset": np.bool_,
        "active": np.bool_,
        "start_ms": np.int64,
        "end_ms": np.int64,
        "budget_left": np.float64,
        "pacing": np.float32,
        "bid": np.float32,
        "bias": np.float32,
    }
    columns = {
        name: np.array([record[name] for record in records], dtype)
        for name, dtype in dtypes.items()
    }
    return DeliveryBatch(ad_ids=columns.pop("ad_id"), versions=columns.pop("version"), **columns)


class IndexMachine(RuleBasedStateMachine):
    """An index and a dict, given the same records."""

    settings = SETTINGS

    @initialize(batches=st.lists(st.lists(ads, min_size=1, max_size=8), max_size=4))
    def begin(self, batches: list[list[dict[str, Any]]]) -> None:
        """With shards and a tail, since a run may never apply, seal or publish anything else."""
        self.folder = tempfile.TemporaryDirectory()
        self.index = Index(self.settings)
        for key in KEYS:
            self.index.features.intern(key)
        self.oracle = Oracle()
        self.held: list[tuple[IndexView, Oracle]] = []
        for records in batches:
            self.seal()
            self.apply(records)
        self.publish()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(records=st.lists(ads | deletes, min_size=1, max_size=8))
    def apply(self, records: list[dict[str, Any]]) -> None:
        applied = self.index.apply(ad_batch(records))
        expected = sum([self.oracle.apply(record) for record in records])
        assert applied.applied == expected
        assert applied.skipped == len(records) - expected

    @rule(records=st.lists(states, min_size=1, max_size=8))
    def deliver(self, records: list[dict[str, Any]]) -> None:
        applied = self.index.apply_delivery(delivery_batch(records))
        assert applied.applied == sum([self.oracle.deliver(record) for record in records])

    @rule()
    def publish(self) -> None:
        self.view = self.index.publish()
        self.visible = self.oracle.copy()

    @rule()
    def hold_the_view(self) -> None:
        self.held = [*self.held[-3:], (self.view, self.visible)]

    @rule(steps=st.integers(1, 4) | st.just(40))
    def maintain(self, steps: int) -> None:
        """A few steps end in the middle of a compaction, many behind it."""
        for _ in range(steps):
            self.index.maintain()

    @rule()
    def seal(self) -> None:
        self.index.seal()

    @rule(first=st.just(0) | st.integers(0, 3))
    def begin_to_compact(self, first: int) -> None:
        if self.index.compacting or first >= len(self.index.sealed):
            return
        self.index.start_compaction(first)

    @rule(restore=st.booleans())
    def snapshot(self, restore: bool) -> None:
        folder = Path(self.folder.name)
        offsets = {"ads": {"0": len(self.oracle.versions)}}
        snapshots.write(self.index, folder, offsets, {"clock_ms": 7})
        if not restore:
            return
        loaded = snapshots.load_latest(folder, self.settings)
        assert loaded is not None
        assert (loaded.offsets, loaded.extra) == (offsets, {"clock_ms": 7})
        assert loaded.index.view.epoch > self.view.epoch
        self.index = loaded.index
        self.view = loaded.index.view
        self.visible = self.oracle.copy()

    @rule(query=queries, k=st.integers(1, 14), within=st.none() | st.lists(ad_ids, max_size=5))
    def search(self, query: Query, k: int, within: list[int] | None) -> None:
        for view, oracle in [(self.view, self.visible), *self.held]:
            wanted = None if within is None else np.array(within, np.int64)
            found = view.search(query, k, wanted)
            expected = oracle.search(query, k, within)
            assert list(zip(found.ad_ids.tolist(), found.scores.tolist(), strict=True)) == expected
            payload, bids = view.gather(found.slots)
            for ad_id, row, bid in zip(found.ad_ids.tolist(), payload, bids, strict=True):
                assert row.tolist() == oracle.ads[ad_id]["payload"]
                assert bid == np.float32(oracle.state(ad_id)["bid"])

    @rule(ad_id=ad_ids, query=queries, within=st.none() | st.lists(ad_ids, max_size=5))
    def explain(self, ad_id: int, query: Query, within: list[int] | None) -> None:
        """Present, eligible, score and rank are those of the search."""
        wanted = None if within is None else np.array(within, np.int64)
        for view, oracle in [(self.view, self.visible), *self.held]:
            answer = explain(view, ad_id, query, wanted)
            assert answer.state.present == (ad_id in oracle.ads)
            limited = dict(oracle.search(query, len(oracle.ads) + 1, within))
            assert (not answer.reasons) == (ad_id in limited)
            unlimited = dataclasses.replace(query, group_limit=None)
            ranking = oracle.search(unlimited, len(oracle.ads) + 1, within)
            if (ad_id, answer.points) in ranking:
                assert answer.rank == ranking.index((ad_id, answer.points)) + 1
            else:
                assert set(answer.reasons) - {"group_limit"}

    @rule(ad_id=ad_ids, now_ms=st.integers(0, 10))
    def describe(self, ad_id: int, now_ms: int) -> None:
        for view, oracle in [(self.view, self.visible), *self.held]:
            state = view.describe(ad_id, now_ms)
            assert state.present == (ad_id in oracle.ads)
            if not state.present:
                assert state.reasons == ("absent",)
                continue
            delivery = oracle.state(ad_id)
            assert state.version == oracle.ads[ad_id]["version"]
            assert ("paused" in state.reasons) == (not delivery["active"])
            assert ("budget_spent" in state.reasons) == (delivery["budget_left"] <= 0)
            assert ("not_started" in state.reasons) == (now_ms < delivery["start_ms"])
            assert ("ended" in state.reasons) == (now_ms >= delivery["end_ms"])
            assert state.eligible == (not state.reasons)

    @invariant()
    def every_step_leaves_the_ranking_of_the_visible_ads(self) -> None:
        """Whatever was done last, and before anything is asked on purpose."""
        if not hasattr(self, "view"):
            return
        assert sum(self.view.counts().values()) == len(self.visible.ads)
        for query in EVERYDAY:
            found = self.view.search(query, 14)
            expected = self.visible.search(query, 14, None)
            assert list(zip(found.ad_ids.tolist(), found.scores.tolist(), strict=True)) == expected

"""An index answers the same wherever its searches run: on the CPU, simulated, or on a GPU."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from index_oracle import SETTINGS, IndexMachine, ad_ids, ads, deletes, queries, states

from gpuindex import (
    AdBatch,
    DeliveryBatch,
    Index,
    IndexSettings,
    IndexView,
    Query,
    Rule,
    compaction,
    explain,
)

WIDTH = 5
FEATURES = 9
NEVER = np.iinfo(np.int64).max


@pytest.fixture
def device(twins: Any, request: pytest.FixtureRequest) -> str:
    """Where this run's indexes search."""
    return "cpu" if request.config.getoption("--twins") == "cpu" else "cuda"


def upserts(ad_ids: Any, version: int, random: np.random.Generator) -> AdBatch:
    """Ads that carry the first features often and the last ones seldom; some have rules."""
    count = len(ad_ids)
    present = random.random((count, FEATURES)) < 0.9 ** np.arange(FEATURES) ** 2
    places = np.nonzero(present)
    rules = [
        None,
        (Rule("age", allow=frozenset({"old"})),),
        (Rule("age", deny=frozenset({"old"})),),
    ]
    return AdBatch(
        ad_ids=np.asarray(ad_ids, np.int64),
        versions=np.full(count, version, np.int64),
        deleted=np.zeros(count, np.bool_),
        feature_offsets=np.append(0, np.cumsum(present.sum(axis=1))).astype(np.int32),
        feature_ids=places[1].astype(np.int32),
        weights=random.integers(1, 256, len(places[1])).astype(np.uint8),
        embeddings=random.integers(-128, 128, (count, WIDTH), dtype=np.int8),
        payload=np.zeros((count, 0), np.int64),
        targeting=[rules[each] for each in random.integers(0, 3, count)],
        groups=random.integers(-1, 4, count, dtype=np.int32),
    )


def deliveries(ad_ids: Any, version: int, random: np.random.Generator) -> DeliveryBatch:
    count = len(ad_ids)
    return DeliveryBatch(
        ad_ids=np.asarray(ad_ids, np.int64),
        versions=np.full(count, version, np.int64),
        reset=np.zeros(count, np.bool_),
        active=random.random(count) < 0.8,
        start_ms=np.zeros(count, np.int64),
        end_ms=np.full(count, NEVER),
        budget_left=np.full(count, np.inf),
        pacing=random.choice([0.3, 1.0], count).astype(np.float32),
        bid=np.ones(count, np.float32),
        bias=random.choice([0.0, 0.5, -2.0], count).astype(np.float32),
    )


def filled(device: str) -> Index:
    """A base, a delta and a tail, some ads dead and some not to be served."""
    random = np.random.default_rng(11)
    index = Index(IndexSettings(embedding_width=WIDTH, payload_width=0, device=device))
    for feature in range(FEATURES):
        index.features.intern(f"f={feature}")
    for first in (0, 120):
        index.apply(upserts(random.permutation(150) + first, 1, random))
        index.seal()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    index.apply(upserts(random.permutation(90) + 250, 1, random))
    index.seal()
    index.apply(upserts(random.permutation(40) + 330, 1, random))
    index.apply_delivery(deliveries(np.arange(370), 1, random))
    index.publish()
    return index


def query(mode: str, seed: int = 12, **rest: Any) -> Query:
    random = np.random.default_rng(seed)
    return Query(
        feature_ids=np.arange(FEATURES, dtype=np.int32),
        weights=random.normal(0.3, 1, FEATURES).astype(np.float32),
        vector=random.normal(size=WIDTH).astype(np.float32),
        embedding_scale=0.01,
        now_ms=5,
        seed=seed,
        mode=mode,
        **rest,
    )


def answer(view: IndexView, *arguments: Any) -> Any:
    """What a search answers, as plain values."""
    found = view.search(*arguments)
    return found.ad_ids.tolist(), found.scores.tolist(), found.slots.tolist(), found.unit


def on_cpu(view: IndexView) -> IndexView:
    """The same view, searched on the CPU."""
    return dataclasses.replace(view, device=None)


QUESTIONS: dict[str, Any] = {
    "sparse": lambda: (query("sparse"), 60),
    "full": lambda: (query("full", query_bits=12), 60),
    "no more than there are": lambda: (query("full"), 5_000),
    "among named ads": lambda: (query("full"), 60, np.arange(0, 500, 3)),
    "an audience": lambda: (query("full", audience={"age": frozenset({"old"})}), 60),
    "filters and caps": lambda: (
        query(
            "sparse",
            filters=(
                Rule("f", allow=frozenset({"1", "2", "unheard"}), deny=frozenset({"4"})),
                Rule("f", deny=frozenset({"5", "6"})),
            ),
            excluded=np.arange(0, 400, 5),
        ),
        60,
    ),
    "a group limit": lambda: (query("full", group_limit=2), 12),
    "nothing": lambda: (
        dataclasses.replace(
            query("full", bias_weight=0.0),
            feature_ids=np.zeros(0, np.int32),
            weights=np.zeros(0, np.float32),
            vector=None,
        ),
        30,
    ),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_search_finds_what_the_cpu_finds(device: str, question: Callable[[], Any]) -> None:
    view = filled(device).view
    assert (view.device is None) == (device == "cpu")
    asked = question()
    found = answer(view, *asked)
    assert found == answer(on_cpu(view), *asked)
    assert found[0]


def test_an_empty_index_has_no_candidates(device: str) -> None:
    index = Index(IndexSettings(embedding_width=WIDTH, payload_width=0, device=device))
    assert answer(index.view, query("full"), 5)[0] == []


def test_a_batch_answers_as_its_queries_alone_do(device: str) -> None:
    """Of different modes and sizes, so that what one leaves behind would show in the next."""
    view = filled(device).view
    asked = [query("full"), query("sparse", 3), query("full", 4, excluded=np.arange(200))]
    assert view.search_batch([], 25) == []
    together = view.search_batch(asked, 25)
    alone = [on_cpu(view).search(each, 25) for each in asked]
    assert [each.ad_ids.tobytes() for each in together] == [each.ad_ids.tobytes() for each in alone]
    assert [each.scores.tobytes() for each in together] == [each.scores.tobytes() for each in alone]


def test_a_held_view_answers_the_same_after_everything_was_rewritten(device: str) -> None:
    """Ads, delivery states, seals and a compaction, all on the memory that the view reads."""
    random = np.random.default_rng(3)
    index = filled(device)
    held = index.view
    asked = query("full"), 60
    before = answer(on_cpu(held), *asked)
    for version in range(2, 5):
        index.apply(upserts(random.permutation(370), version, random))
        index.apply_delivery(deliveries(np.arange(370), version, random))
        index.publish()
        index.seal()
        index.publish()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    index.apply(upserts(random.permutation(100), 9, random))
    now = index.publish()
    assert answer(held, *asked) == before
    assert answer(now, *asked) == answer(on_cpu(now), *asked) != before


def test_an_explanation_gives_the_score_and_the_place_of_the_search(device: str) -> None:
    view = filled(device).view
    asked = query("full")
    found = view.search(asked, 60)
    for place in (0, 7, 59):
        explained = explain(view, int(found.ad_ids[place]), asked)
        assert (explained.points, explained.rank) == (int(found.scores[place]), place + 1)
        assert not explained.reasons


CHANGES: list[Callable[[IndexMachine, Any], None]] = [
    lambda machine, data: machine.apply(records=data.draw(st.lists(ads, min_size=4, max_size=8))),
    lambda machine, data: machine.apply(records=data.draw(st.lists(ads | deletes, min_size=1))),
    lambda machine, data: machine.deliver(records=data.draw(st.lists(states, min_size=1))),
    lambda machine, data: machine.publish(),
    lambda machine, data: machine.hold_the_view(),
    lambda machine, data: machine.seal(),
    lambda machine, data: machine.maintain(steps=data.draw(st.integers(1, 6))),
    lambda machine, data: machine.begin_to_compact(first=data.draw(st.integers(0, 1))),
    lambda machine, data: machine.snapshot(restore=data.draw(st.booleans())),
]
BEGINNINGS = st.lists(st.lists(ads, min_size=4, max_size=8), max_size=3)

# Examples, and rounds of each, that a side has time for.
EFFORT = {"cpu": (5, 8), "simulator": (5, 4), "cuda": (60, 8)}


def test_any_interleaving_equals_a_dict(
    device: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLICE_POSTINGS", 3)
    monkeypatch.setattr(compaction, "SLICE_ADS", 4)
    examples, rounds = EFFORT[request.config.getoption("--twins")]

    @hypothesis_settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A failure of the simulator would be shrunk for hours.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    @given(data=st.data())
    def interleave(data: Any) -> None:
        machine = IndexMachine()
        machine.settings = dataclasses.replace(SETTINGS, device=device)
        machine.begin(
            batches=data.draw(st.lists(st.lists(ads, min_size=1, max_size=8), max_size=3))
        )
        try:
            for _ in range(rounds):
                for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=2, max_size=6)):
                    change(machine, data)
                machine.publish()
                machine.held = machine.held[-1:]
                machine.search(
                    query=data.draw(queries),
                    k=data.draw(st.integers(1, 14)),
                    within=data.draw(st.none() | st.lists(ad_ids, max_size=5)),
                )
        finally:
            machine.teardown()

    interleave()

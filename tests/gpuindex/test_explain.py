"""What an explanation says is what the search did."""

from typing import Any

import numpy as np
import pytest

from gpuindex import Index, Rule, explain

DENSITIES = [0.01, 0.05, 0.3, 0.9]
ADS = 900


@pytest.fixture
def index(new_index: Any, catalog: Any) -> Index:
    """Ads in a base, a delta shard and the tail."""
    known = catalog.drawn(ADS, DENSITIES)
    index: Index = new_index(len(DENSITIES))
    index.apply(known.batch(slice(0, 400)))
    index.seal()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    index.apply(known.batch(slice(400, 700)))
    index.seal()
    index.apply(known.batch(slice(700, None)))
    index.apply_delivery(known.delivery())
    index.publish()
    return index


@pytest.mark.parametrize("mode", ["full", "sparse"])
@pytest.mark.parametrize("bits", [6, 12])
def test_the_parts_add_up_to_the_searchs_score_exactly(
    index: Index, new_query: Any, mode: str, bits: int
) -> None:
    query = new_query(len(DENSITIES), mode, query_bits=bits)
    found = index.view.search(query, ADS)
    assert len(found) > 100
    kinds = set()
    for place in range(0, len(found), 7):
        answer = explain(index.view, int(found.ad_ids[place]), query)
        parts = sum(match.points for match in answer.matches) + answer.product + answer.bias
        assert parts == answer.points == found.scores[place]
        assert answer.points * answer.unit == found.scores[place] * found.unit
        assert answer.rank == place + 1
        assert answer.reasons == ()
        kinds.add(answer.state.shard)
    assert kinds == {"base", "delta", "tail"}


def test_matching_features_come_by_name_with_the_greatest_effect_first(
    index: Index, new_query: Any
) -> None:
    query = new_query(len(DENSITIES), "full")
    ad_id = int(index.view.search(query, 1).ad_ids[0])
    matches = explain(index.view, ad_id, query).matches
    assert {match.feature for match in matches} <= {f"f={n}" for n in range(len(DENSITIES))}
    effects = [abs(match.points) for match in matches]
    assert effects == sorted(effects, reverse=True)


def test_an_absent_ad_is_absent(index: Index, new_query: Any) -> None:
    answer = explain(index.view, 1, new_query(len(DENSITIES), "full"))
    assert (answer.state.present, answer.reasons, answer.rank) == (False, ("absent",), None)


def test_every_rule_that_says_no_is_named(new_index: Any, catalog: Any, new_query: Any) -> None:
    known = catalog.drawn(60, [0.9])
    index: Index = new_index(1)
    batch = known.batch(slice(None))
    batch.targeting[0] = (Rule("age", frozenset({"30"})),)
    index.apply(batch)
    state = known.delivery()
    state.active[0] = False
    state.pacing[0] = 0.0
    state.start_ms[0] = 900
    index.apply_delivery(state)
    view = index.publish()
    ad_id = int(known.ad_ids[0])
    query = new_query(
        1,
        "sparse",
        filters=(Rule("colour", frozenset({"red"})),),
        excluded=np.array([ad_id]),
    )
    reasons = explain(view, ad_id, query, within=known.ad_ids[1:]).reasons
    assert set(reasons) - {"no_match"} == {
        "paused",
        "not_started",
        "paced_out",
        "targeting.age",
        "filters.colour",
        "not_a_candidate",
        "excluded",
    }


def test_the_ad_that_a_group_limit_holds_back_says_so(
    new_index: Any, catalog: Any, new_query: Any
) -> None:
    known = catalog.drawn(60, [1.0])
    known.open[:] = True
    index: Index = new_index(1)
    batch = known.batch(slice(None))
    index.apply(type(batch)(**{**vars(batch), "groups": np.zeros(60, np.int32)}))
    index.apply_delivery(known.delivery())
    view = index.publish()
    query = new_query(1, "full", group_limit=2)
    ranking, _ = known.best(query, 60)
    assert [explain(view, ad_id, query).reasons for ad_id in ranking[:3]] == [
        (),
        (),
        ("group_limit",),
    ]
    assert explain(view, ranking[2], query).rank == 3

"""The K best eligible ads and nobody else, on every side."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gpuindex.columns import AdColumns
from gpuindex.kernels.cpu.draws import paced
from gpuindex.kernels.cpu.shards import PAGE_SLOTS
from gpuindex.kernels.cpu.states import ACTIVE, OPEN, STATE

NEVER = np.iinfo(np.int64).max
NOW_MS = 1_000
SEED = -9
EPOCH = 5
SIZES = [150, 90]
TAIL = 60
SLOTS = sum(SIZES) + TAIL


@dataclass
class View:
    """What a view says about its slots; all may be served at first."""

    ad_ids: Any = field(
        default_factory=lambda: np.random.default_rng(0).permutation(SLOTS) * (2**53) + 7
    )
    targeting: Any = field(default_factory=lambda: np.zeros(SLOTS, np.int32))
    dead: Any = field(default_factory=lambda: np.full(SLOTS, NEVER, np.int64))
    states: Any = field(default_factory=lambda: np.zeros((4, PAGE_SLOTS), STATE))
    pages: Any = field(default_factory=lambda: np.array([3, 1], np.int32))
    allowed: Any = field(default_factory=lambda: np.ones(1, np.uint8))
    mask: Any = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __post_init__(self) -> None:
        self.states["gate"] = OPEN
        self.states["end_ms"] = NEVER
        self.states["pacing"] = 1

    def set_state(self, name: str, values: Any) -> None:
        """One value of delivery state per slot."""
        slots = np.arange(SLOTS)
        self.states[name][self.pages[slots // PAGE_SLOTS], slots % PAGE_SLOTS] = values

    def best(
        self, twins: Any, ads: Any, scores: Any, k: int, least: int, touched: Any = None
    ) -> Any:
        """Scores and ad ids that `topk` finds; checks the slots and what it leaves."""
        bounds = np.cumsum([0, *SIZES, TAIL])
        columns = []
        for begin, end in pairwise(bounds):
            own = AdColumns.empty(end - begin, 0, 0)
            own.ad_ids[:] = self.ad_ids[begin:end]
            own.targeting[:] = self.targeting[begin:end]
            columns.append(own)
        placed = [
            (int(begin), ads.drawn(size, [0.5]).shard(own))
            for begin, size, own in zip(bounds, SIZES, columns, strict=False)
        ]
        table, _held = twins.table(placed)
        places = np.asarray(scores, np.int32)
        count = -1
        if touched is not None:
            count = len(touched)
            places = places[touched]
        tail_ad_ids, tail_targeting = (
            twins.put(columns[-1].ad_ids),
            twins.put(columns[-1].targeting),
        )
        results = [twins.put(np.zeros(k, dtype)) for dtype in (np.int32, np.int64, np.int32)]
        found = twins.topk(
            table,
            int(bounds[-2]),
            TAIL,
            tail_ad_ids,
            tail_targeting,
            twins.put(places),
            twins.put(np.asarray([0] if touched is None else touched, np.int32)),
            count,
            least,
            twins.put(self.dead),
            EPOCH,
            twins.put(self.pages),
            twins.put(self.states),
            NOW_MS,
            SEED,
            twins.put(self.allowed),
            twins.put(self.mask),
            twins.put(np.zeros(k + 256, np.int64)),
            *results,
        )
        top_scores, top_ads, top_slots = (twins.get(array)[:found] for array in results)
        assert self.ad_ids[top_slots].tolist() == top_ads.tolist()
        return top_scores.tolist(), top_ads.tolist()

    def expected(self, scores: Any, k: int, least: int, may: Any) -> Any:
        rows = np.flatnonzero(may & (scores >= least))
        rows = rows[np.lexsort((self.ad_ids[rows], -scores[rows].astype(np.int64)))][:k]
        return scores[rows].tolist(), self.ad_ids[rows].tolist()


LOWEST = int(np.iinfo(np.int32).min)
EVERYBODY = np.ones(SLOTS, np.bool_)


@pytest.mark.parametrize("k", [1, 40, SLOTS, SLOTS + 10])
def test_best_come_first_over_the_whole_range_of_scores(twins: Any, ads: Any, k: int) -> None:
    view = View()
    scores = np.random.default_rng(1).integers(-(2**31), 2**31, SLOTS)
    scores[:2] = 2**31 - 1, -(2**31)
    assert view.best(twins, ads, scores, k, LOWEST) == view.expected(scores, k, LOWEST, EVERYBODY)


@pytest.mark.parametrize("values", [1, 3])
def test_equal_scores_come_by_lower_ad_id(twins: Any, ads: Any, values: int) -> None:
    view = View()
    scores = np.random.default_rng(2).integers(0, values, SLOTS)
    assert view.best(twins, ads, scores, 70, LOWEST) == view.expected(scores, 70, LOWEST, EVERYBODY)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf], ids=str)
def test_state_never_written_shuts_an_ad_out_whatever_it_holds(
    twins: Any, ads: Any, garbage: float
) -> None:
    """Places of a page that no ad was given hold what was in memory before."""
    view = View()
    may = np.random.default_rng(4).random(SLOTS) < 0.5
    view.dead[~may] = EPOCH
    view.set_state("pacing", np.where(may, np.float32(1), np.float32(garbage)))
    scores = np.random.default_rng(5).integers(0, 50, SLOTS)
    assert view.best(twins, ads, scores, 70, 1) == view.expected(scores, 70, 1, may)


def test_only_eligible_ads_are_found(twins: Any, ads: Any) -> None:
    """Each rule by itself shuts out some that every other rule lets through."""
    random = np.random.default_rng(3)
    view = View()
    scores = random.integers(-50, 50, SLOTS)
    may = np.ones(SLOTS, np.bool_)

    def draw(choices: list[Any]) -> Any:
        return random.choice(np.array(choices), SLOTS)

    view.dead[:] = draw([NEVER, NEVER, EPOCH + 1, EPOCH])
    may &= view.dead > EPOCH
    gates = draw([OPEN, OPEN, OPEN, ACTIVE])
    view.set_state("gate", gates)
    may &= gates == OPEN
    starts = draw([0, 0, NOW_MS, NOW_MS + 1])
    view.set_state("start_ms", starts)
    may &= starts <= NOW_MS
    ends = draw([NEVER, NEVER, NOW_MS + 1, NOW_MS])
    view.set_state("end_ms", ends)
    may &= ends > NOW_MS
    pacing = draw([1, 1, 0.5, 0]).astype(np.float32)
    view.set_state("pacing", pacing)
    draws = np.array([paced(SEED, ad) for ad in view.ad_ids])
    may &= (pacing >= 1) | (draws < pacing)
    view.targeting[:] = draw([0, 0, 1, 2])
    view.allowed = np.array([1, 1, 0], np.uint8)
    may &= view.targeting != 2
    view.mask = draw([1, 1, 1, 0]).astype(np.uint8)
    may &= view.mask != 0
    for k, least in ((10, LOWEST), (SLOTS, LOWEST), (SLOTS, 7)):
        found = view.best(twins, ads, scores, k, least)
        assert found == view.expected(scores, k, least, may)
        assert found[0]


def test_nobody_eligible_is_nobody_found(twins: Any, ads: Any) -> None:
    view = View()
    view.set_state("gate", 0)
    assert view.best(twins, ads, np.arange(SLOTS), 5, LOWEST) == ([], [])


def test_of_touched_slots_the_best_are_found_in_whatever_order_they_come(
    twins: Any, ads: Any
) -> None:
    """Their scores come beside them, not by slot."""
    random = np.random.default_rng(4)
    view = View()
    touched = random.choice(SLOTS, 90, replace=False)
    scores = np.zeros(SLOTS, np.int64)
    scores[touched] = random.integers(-3, 9, 90)
    wanted = view.expected(scores, 30, 1, EVERYBODY)
    assert view.best(twins, ads, scores, 30, 1, touched) == wanted

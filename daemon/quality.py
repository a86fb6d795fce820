"""Quality on real data: is what a user buys next week among the first hundred ads?

Owns the questions (users drawn with a fixed seed, their weeks, what they then bought), the two
baselines, and recall. Promises that a question and its baselines rest only on what was known
before the week. Asking a worker, a model or anything else is the caller's: it passes a scorer.

The measure: of the distinct products that a user bought in the week, among those with a live ad,
the share in the first `k` of a list, cut to one ad per product; then the mean over users.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .datasets import complete_journey as journey
from .rows import Mean

# The first two weeks that the demo's models have not learned from.
WEEKS: Final = (41, 42)
K: Final = 100
USERS: Final = 200
SEED: Final = 0

POPULARITY_DAYS: Final = 28
_DAY_MS: Final = 86_400_000

Ints = NDArray[np.int64]


class Scored(Protocol):
    """One ad of an answer; `stream.records.ScoredAd` has it all."""

    @property
    def ad_id(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def value(self) -> float: ...


@dataclass(frozen=True)
class Question:
    """What is asked about one user at the start of a week.

    Attributes:
        profile: what is known of the user, by field; an absent field is unknown.
        context: the store of the user's latest purchase.
        now_ms: the start of the week.
        bought: the products with a live ad that the user then bought. The answer: not for scorers.
    """

    user_id: int
    profile: Mapping[str, tuple[str, ...]]
    context: Mapping[str, tuple[str, ...]]
    now_ms: int
    bought: frozenset[int]


Scorer = Callable[[Question], Awaitable[Sequence[Scored]]]
"""Answers a question with all candidates, in any order.

It must ask for as many ads as there are candidates: of a shorter answer, cut by value, the order
by score cannot be told.
"""


class Week:
    """One week's questions, and what the past alone answers to them."""

    def __init__(self, week: int, users: int = USERS, seed: int = SEED) -> None:
        """Draw the users.

        Args:
            week: the week whose purchases are to be foretold.
            users: how many to draw of those who bought a product with a live ad in it; fewer
                when there are not so many.
            seed: of the draw.
        """
        self.now_ms = journey.week_start_ms(week)
        self.live = np.unique(journey.products_of(journey.ads(week, week + 1)["ad_id"].to_numpy()))
        self._lines = _Lines.of(journey.events(week + 1))
        self._past = self._lines.before(self.now_ms)
        self._recent = self._past.since(self.now_ms - POPULARITY_DAYS * _DAY_MS)
        self.questions = self._draw(users, np.random.default_rng([seed, week]))

    def popularity(self) -> list[int]:
        """Live products by their purchases in the last POPULARITY_DAYS, the most first."""
        return self._order(self._counts(self._recent))

    def popularity_all_time(self) -> list[int]:
        """Live products by all their purchases, the most first."""
        return self._order(self._counts(self._past))

    def personal_frequency(self, user_id: int) -> list[int]:
        """Live products by how often the user bought them, equals by popularity."""
        own = self._counts(self._past.by(user_id))
        return self._order(own, self._counts(self._recent))

    def _draw(self, users: int, draw: np.random.Generator) -> list[Question]:
        week = self._lines.since(self.now_ms)
        week = week.only(np.isin(week.product, self.live))
        able = np.unique(week.user)
        drawn = np.sort(draw.choice(able, min(users, len(able)), replace=False))
        profiles = _profiles(drawn)
        return [
            Question(
                user_id,
                profiles[user_id],
                self._past.latest_store(user_id),
                self.now_ms,
                frozenset(week.by(user_id).product.tolist()),
            )
            for user_id in drawn.tolist()
        ]

    def _counts(self, lines: _Lines) -> Ints:
        """[live] int64: purchases of each live product."""
        live = lines.product[np.isin(lines.product, self.live)]
        return np.bincount(np.searchsorted(self.live, live), minlength=len(self.live))

    def _order(self, *keys: Ints) -> list[int]:
        """Live products by the keys, highest first, the first key before the others; then by id."""
        order = np.lexsort((self.live, *(-key for key in reversed(keys))))
        return list(self.live[order].tolist())


async def measure(scorer: Scorer, weeks: AsyncIterable[Week], k: int = K) -> dict[str, Mean]:
    """Recall@k of a scorer's two orders and of the baselines, over all questions of the weeks.

    Args:
        scorer: answers the questions of a week before the next week is asked for.
        weeks: asynchronous, so that it can bring a worker to each week's Monday and no further.
        k: how much of a list counts.

    Returns:
        By system: `headwater` (by score, retrieval's order), `headwater_ranked` (by value),
        `popularity` (POPULARITY_DAYS), `popularity_all_time`, `personal_frequency`.
    """
    recalls: defaultdict[str, list[float]] = defaultdict(list)
    async for week in weeks:
        popularity, all_time = week.popularity(), week.popularity_all_time()
        for question in week.questions:
            answer = await scorer(question)
            lists = {
                "headwater": _products(answer, lambda ad: ad.score),
                "headwater_ranked": _products(answer, lambda ad: ad.value),
                "popularity": popularity,
                "popularity_all_time": all_time,
                "personal_frequency": week.personal_frequency(question.user_id),
            }
            for system, products in lists.items():
                recalls[system].append(recall(products, question.bought, k))
    return {system: Mean.of(values) for system, values in recalls.items()}


def recall(products: Sequence[int], bought: frozenset[int], k: int = K) -> float:
    """The share of `bought` among the first k products of a list."""
    return len(bought.intersection(products[:k])) / len(bought)


def one_per_product(ad_ids: Iterable[int]) -> list[int]:
    """The products of a list of ads, each at the place of its first ad."""
    products = journey.products_of(np.fromiter(ad_ids, np.int64))
    return list(dict.fromkeys(products.tolist()))


def _products(answer: Sequence[Scored], by: Callable[[Scored], float]) -> list[int]:
    ordered = sorted(answer, key=lambda ad: (-by(ad), ad.ad_id))
    return one_per_product(ad.ad_id for ad in ordered)


@dataclass(frozen=True)
class _Lines:
    """Purchases as columns, oldest first: [N] int64 user, time_ms, product, store."""

    user: Ints
    time_ms: Ints
    product: Ints
    store: Ints

    @classmethod
    def of(cls, events: pa.Table) -> _Lines:
        product, store = (_integers(events[name]) for name in ("product", "store"))
        return cls(events["user_id"].to_numpy(), events["time_ms"].to_numpy(), product, store)

    def only(self, rows: NDArray[np.bool_] | slice) -> _Lines:
        return _Lines(self.user[rows], self.time_ms[rows], self.product[rows], self.store[rows])

    def before(self, time_ms: int) -> _Lines:
        return self.only(slice(None, int(np.searchsorted(self.time_ms, time_ms))))

    def since(self, time_ms: int) -> _Lines:
        return self.only(slice(int(np.searchsorted(self.time_ms, time_ms)), None))

    def by(self, user_id: int) -> _Lines:
        return self.only(self.user == user_id)

    def latest_store(self, user_id: int) -> dict[str, tuple[str, ...]]:
        stores = self.by(user_id).store
        return {"store": (str(stores[-1]),)} if len(stores) else {}


def _integers(column: pa.ChunkedArray) -> Ints:
    """Dictionary-encoded decimal strings as integers."""
    encoded = column.combine_chunks()
    numbers = encoded.dictionary.cast(pa.int64()).to_numpy()
    integers: Ints = numbers[encoded.indices.to_numpy()]
    return integers


def _profiles(user_ids: Ints) -> dict[int, dict[str, tuple[str, ...]]]:
    users = journey.users()
    drawn = users.filter(pc.is_in(users["user_id"], value_set=pa.array(user_ids)))
    return {
        row.pop("user_id"): {field: (value,) for field, value in row.items() if value is not None}
        for row in drawn.to_pylist()
    }

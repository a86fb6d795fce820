"""One request's way through retrieval and ranking.

Owns the scoring thread's work: a request becomes a query, candidates, probabilities and a final
order. Promises that the answer names the state that it rests on (epoch, offsets, models) and is a
function of that state, the request, its seed and its now. Where requests come from and where
answers go is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from gpuindex import Candidates, Query, SearchThreads, explain
from model.features import Encoder, Request
from model.value import FACTORS
from monitoring.metrics import CANDIDATES, REQUEST_SECONDS
from stream.codec import encode_id
from stream.placement import partition_of
from stream.records import (
    Explanation,
    Impression,
    MatchedFeature,
    ScoredAd,
    ScoreRequest,
    ScoreResponse,
    UserEvent,
)
from stream.topics import USER_EVENTS, USER_PARTITIONS

from .clock import Clock
from .features import FeatureMap
from .frequency import capped
from .histories import EncodedHistories, Expiry
from .impressions import Impressions
from .index_writer import Published
from .models import NONE, Models
from .settings import ScoringSection
from .translate import rules

# The ranker's columns, in its order.
TASKS = ("engage", "consume")

# What the index calls a rule is called after the request's field here.
REASONS = {"excluded": "frequency_cap", "group_limit": "max_per_advertiser"}


class RequestRefused(Exception):
    """The request is well-formed and cannot be answered; `code` is the response's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class _Asked:
    """A request as retrieval reads it, and the state that it is held against.

    Attributes:
        published: what is searched.
        event_offsets: what the user's history rests on.
        user: the user's side as the models read it; None without any model.
        query: what is looked for.
        among: [n] int64, the ads to choose from; None for all.
        cut: how many ads retrieval hands on.
    """

    published: Published
    event_offsets: dict[int, int]
    user: Request | None
    query: Query
    among: NDArray[np.int64] | None
    cut: int

    @property
    def offsets(self) -> dict[str, dict[int, int]]:
        """The next offset not yet applied, by topic and partition."""
        return {**self.published.offsets, USER_EVENTS: self.event_offsets}


@dataclass(frozen=True)
class _Ranked:
    """The final order, and what it rests on.

    Attributes:
        items: [n, F] int64, the candidates' item features.
        order: [n] positions into the candidates.
        values: [n], what the order is by.
        probabilities: [n, tasks] float32; None without a ranker.
        factors: [n, 3] float64 of the values; None without a ranker.
    """

    items: NDArray[np.int64]
    order: NDArray[np.int64]
    values: NDArray[np.floating]
    probabilities: NDArray[np.float32] | None = None
    factors: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Scored:
    """An answer, and what is to be logged of it; None if nothing is."""

    response: ScoreResponse
    impression: Impression | None


class Scorer:
    """Answers requests, one at a time, on the scoring thread.

    Args:
        models: any of the two may be absent.
        features: the models' features as the index numbers them.
        histories: encoded for the models; None where there is no model.
        published: what requests are held against now.
        event_offsets: partition -> next offset, of the partitions whose users are here.
        events: reads a user's events that are later than a time, oldest first.
        expiry: of events.
        clock: the worker's.
        settings: limits and threads.
        query_bits: of a query's weights.
        impressions: decides which answers are logged.
    """

    def __init__(
        self,
        models: Models,
        features: FeatureMap,
        histories: EncodedHistories | None,
        published: Callable[[], Published],
        event_offsets: Callable[[], dict[int, int]],
        events: Callable[[int, int], list[UserEvent]],
        expiry: Expiry,
        clock: Clock,
        settings: ScoringSection,
        query_bits: int,
        impressions: Impressions,
    ) -> None:
        self._models = models
        self._features = features
        self._histories = histories
        self._published = published
        self._event_offsets = event_offsets
        self._events = events
        self._expiry = expiry
        self._clock = clock
        self._settings = settings
        self._query_bits = query_bits
        threads = settings.search_threads
        self._threads = SearchThreads(threads) if threads > 1 else None
        self._impressions = impressions

    def score(self, request: ScoreRequest) -> Scored:
        """Answer one request.

        Raises:
            RequestRefused: the request asks for what this version or configuration cannot do.
        """
        began = time.perf_counter()
        asked = self._asked(request)
        user, among = asked.user, asked.among
        versions = self._models.versions
        flags = [f"{kind}_none" for kind, version in versions.items() if version == NONE]
        if user is not None and not len(user.history.time_ms):
            flags.append("cold_start")
        with_features = time.perf_counter()

        found = asked.published.view.search(asked.query, asked.cut, among, self._threads)
        if among is not None and len(found.ad_ids) < len(among):
            flags.append("candidates_missing")
        if not len(found.ad_ids):
            flags.append("nothing_eligible")
        retrieved = time.perf_counter()

        ranked = self._rank(request, user, asked.published, found)
        finished = time.perf_counter()
        CANDIDATES.observe(len(found.ad_ids))
        REQUEST_SECONDS.labels("features").observe(with_features - began)
        REQUEST_SECONDS.labels("retrieve").observe(retrieved - with_features)
        REQUEST_SECONDS.labels("rank").observe(finished - retrieved)
        response = ScoreResponse(
            request_id=request.request_id,
            user_id=request.user_id,
            ads=tuple(_scored(found, ranked, request.k)),
            models=dict(self._models.versions),
            epoch=found.epoch,
            offsets=asked.offsets,
            flags=tuple(flags),
        )
        impression = None
        if self._impressions.wants(request):
            items = ranked.items[ranked.order[: request.k]]
            impression = self._impressions.record(request, response, asked.query.now_ms, items)
        return Scored(response, impression)

    def explain(self, request: ScoreRequest, ad_id: int) -> Explanation:
        """Say what one ad is to a request: whether and why not served, and its score by parts.

        Raises:
            RequestRefused: as `score`.
        """
        asked = self._asked(request)
        answer = explain(asked.published.view, ad_id, asked.query, asked.among)
        state, unit = answer.state, answer.unit
        judged = Explanation(
            request_id=request.request_id,
            user_id=request.user_id,
            ad_id=ad_id,
            present=state.present,
            version=state.version,
            shard=state.shard,
            slot=state.slot,
            eligible=not answer.reasons,
            reasons=tuple(REASONS.get(reason, reason) for reason in answer.reasons),
            cut=asked.cut,
            models=dict(self._models.versions),
            epoch=asked.published.view.epoch,
            offsets=asked.offsets,
        )
        if not state.present:
            return judged
        return structs.replace(
            judged,
            score=answer.points * unit,
            points=answer.points,
            unit=unit,
            features=tuple(
                MatchedFeature(
                    feature=match.feature,
                    ad_weight=match.ad_weight / 255,
                    query_weight=match.points * unit / (match.ad_weight / 255),
                    points=match.points,
                )
                for match in answer.matches
            ),
            dense=answer.product,
            bias=answer.bias,
            rank=answer.rank,
        )

    def warm(self) -> None:
        """Run each model once on a request of the largest usual size."""
        encoder = self._models.encoder
        if encoder is None:
            return
        user = Request(encoder.profile({}), encoder.context({}, 0), 0, encoder.history([]))
        if self._models.retriever is not None:
            self._models.retriever.query(user)
        if self._models.ranker is not None:
            shape = (self._settings.candidates, self._models.payload_width)
            self._models.ranker.score(user, np.zeros(shape, np.int64))

    def _check(self, request: ScoreRequest) -> None:
        wanted = request.candidates
        asked = {
            "k": request.k,
            "candidates": wanted if isinstance(wanted, int) else len(wanted or ()),
        }
        for name, number in asked.items():
            if number > self._settings.max_candidates:
                limit = self._settings.max_candidates
                raise RequestRefused("invalid_field", f"{name}: {number} ads; at most {limit}")

    def _asked(self, request: ScoreRequest) -> _Asked:
        self._check(request)
        now_ms = self._clock.now_ms() if request.now_ms is None else request.now_ms
        # Histories first: the offsets that the answer names are never ahead of what it used.
        event_offsets = self._event_offsets()
        published = self._published()
        user = self._user(request, now_ms)
        among, cut = None, self._settings.candidates
        if isinstance(request.candidates, int):
            cut = request.candidates
        elif request.candidates is not None:
            among = np.unique(np.array(request.candidates, np.int64))
            cut = len(among)
        query = self._query(request, user, now_ms)
        self._check_owned(request.user_id)
        return _Asked(published, event_offsets, user, query, among, max(request.k, cut))

    def _check_owned(self, user_id: int) -> None:
        """After reading the history: it was whole if its partition is still here."""
        partition = partition_of(encode_id(user_id), USER_PARTITIONS)
        if partition not in self._event_offsets():
            detail = f"partition {partition} has just moved to another worker; ask again"
            raise RequestRefused("not_owner", detail)

    def _user(self, request: ScoreRequest, now_ms: int) -> Request | None:
        """The user's side as the models read it; None without any model."""
        encoder: Encoder | None = self._models.encoder
        if encoder is None or self._histories is None:
            return None
        return Request(
            profile=encoder.profile(request.user),
            context=encoder.context(request.context, now_ms),
            now_ms=now_ms,
            history=self._histories.read(request.user_id, self._expiry.before_ms(now_ms)),
        )

    def _query(self, request: ScoreRequest, user: Request | None, now_ms: int) -> Query:
        ids, weights = np.zeros(0, np.int32), np.zeros(0, np.float32)
        vector, scale = None, 1.0
        retriever = self._models.retriever
        if retriever is not None and user is not None:
            learned = retriever.query(user)
            ids, weights = self._features.resolve(learned.raw_ids, learned.weights)
            vector, scale = learned.vector, retriever.embedding_scale
        audience = {**request.user, **request.context}
        return Query(
            feature_ids=ids,
            weights=weights,
            vector=vector,
            embedding_scale=scale,
            mode=request.mode,
            now_ms=now_ms,
            seed=request.effective_seed,
            audience={field: frozenset(values) for field, values in audience.items()},
            filters=rules(request.filters),
            excluded=self._capped(request, now_ms),
            group_limit=request.max_per_advertiser,
            query_bits=self._query_bits,
        )

    def _capped(self, request: ScoreRequest, now_ms: int) -> NDArray[np.int64]:
        """Ads that the user has seen often enough."""
        if request.frequency_cap is None:
            return np.zeros(0, np.int64)
        after_ms = self._expiry.before_ms(now_ms)
        return capped(
            request.frequency_cap, lambda: self._events(request.user_id, after_ms), now_ms
        )

    def _rank(
        self, request: ScoreRequest, user: Request | None, published: Published, found: Candidates
    ) -> _Ranked:
        items, bids = published.view.gather(found.slots)
        ranker = self._models.ranker
        if ranker is None or user is None or not request.rank:
            # Retrieval's order stands, and its score is the value.
            values = found.scores * found.unit
            return _Ranked(items, np.arange(len(found.ad_ids)), values)
        retrieval = (found.scores * found.unit).astype(np.float32)
        probabilities = ranker.score(user, items, retrieval)
        values = self._models.value.value(bids, probabilities)
        factors = self._models.value.factors(bids, probabilities)
        order = np.lexsort((found.ad_ids, -values))
        return _Ranked(items, order, values, probabilities, factors)


def _scored(found: Candidates, ranked: _Ranked, k: int) -> list[ScoredAd]:
    ads = []
    for at in ranked.order[:k].tolist():
        tasks: dict[str, float] = {}
        factors: dict[str, float] = {}
        if ranked.probabilities is not None:
            tasks = dict(zip(TASKS, ranked.probabilities[at].tolist(), strict=True))
        if ranked.factors is not None:
            factors = dict(zip(FACTORS, ranked.factors[at].tolist(), strict=True))
        ads.append(
            ScoredAd(
                ad_id=int(found.ad_ids[at]),
                score=float(found.scores[at] * found.unit),
                value=float(ranked.values[at]),
                tasks=tasks,
                factors=factors,
            )
        )
    return ads

"""The records: what each topic carries, as frozen types.

Owns the fields, their defaults and their bounds. Ids are Python integers here and decimal strings
in every format; `stream.codec` is the only place that knows both. Times are epoch milliseconds UTC.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MAX_ID: Final = 2**63 - 1
# 9999-12-31T23:59:59.999Z: producers write it for "no end", and it must stay valid.
MAX_TIME_MS: Final = 253_402_300_799_999
MAX_FEATURES: Final = 4_096

# The version of a null value without a header: one more than the last that is known of that ad.
NEXT_VERSION: Final = -1

# The action of an event that erases its user: all that came before it on its partition.
ERASE: Final = "erase"

TimeMs = Annotated[int, Meta(ge=0, le=MAX_TIME_MS)]
# One less than fits, so that "the last one + 1" fits too.
Version = Annotated[int, Meta(ge=0, le=MAX_ID - 1)]
# Far above any price or quantity, and far below what sums in float32 can hold.
Amount = Annotated[float, Meta(ge=-1e12, le=1e12)]
Bid = Annotated[float, Meta(ge=0.0, le=1e12)]
Unsigned63 = Annotated[int, Meta(ge=0, le=MAX_ID)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
# JSON has no NaN and no infinity, but MessagePack and Protobuf do; bounds keep both out.
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
# How an id is written, for the JSON Schema alone: `stream.codec` checks it.
ID_PATTERN: Final = "^(0|[1-9][0-9]{0,18})$"
Id = Annotated[int, Meta(extra_json_schema={"pattern": ID_PATTERN})]
DecimalId = Annotated[str, Meta(extra_json_schema={"pattern": ID_PATTERN})]
NonEmpty = Annotated[str, Meta(min_length=1)]
Values = tuple[str, ...]


class Rule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition on one field: some value is in `allow`, and none is in `deny`.

    None places no condition. An empty `allow` admits nothing.
    """

    allow: Values | None = None
    deny: Values | None = None


class Ad(Struct, frozen=True):
    """A whole ad as its advertiser wrote it."""

    version: int
    advertiser: str = ""
    campaign: str = ""
    features: Mapping[str, Values | Mapping[str, float]] = {}
    """By field: values that weigh 1, or value -> weight in (0, 1]."""
    targeting: dict[str, Rule] = {}
    """Field of the user's profile or of the request's context -> condition."""


class AdChange(Struct, frozen=True, gc=False):
    """What a record on `ads` asks for; `ad` is None for a delete."""

    ad_id: int
    version: int
    """`NEXT_VERSION` on a delete that carries none."""
    ad: Ad | None


class Delivery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether, when and for how much an ad may be served; the defaults are those of an ad that
    has no delivery record."""

    version: Version
    status: Literal["active", "paused"] = "active"
    budget_left: Finite | None = None
    """In the unit of `bid`; None is unlimited."""
    pacing: Fraction = 1.0
    """Share of the requests that may see the ad."""
    bid: Bid = 1.0
    start_ms: TimeMs | None = None
    """First moment of the flight; None is open."""
    end_ms: TimeMs | None = None
    """First moment after the flight; None is open."""


class ControlChange(Struct, frozen=True, gc=False):
    """What a record on `ads-control` asks for; `delivery` is None for "back to the defaults"."""

    ad_id: int
    version: int
    """`NEXT_VERSION` on a null value that carries none."""
    delivery: Delivery | None


class ClockTick(Struct, frozen=True, forbid_unknown_fields=True):
    """The replay clock's time, on `ads-control` under the key `_clock`."""

    time_ms: TimeMs


class UserEvent(Struct, frozen=True, gc=False):
    """What a user did, with the item's features as they were then."""

    event_id: str
    ad_id: int | None
    action: str
    time_ms: int
    value: float = 0.0
    features: dict[str, Values] = {}


class EventRecord(Struct, frozen=True, gc=False):
    """A record on `user-events`, and where it stands there."""

    user_id: int
    event: UserEvent
    partition: int
    offset: int


class FrequencyCap(Struct, frozen=True, forbid_unknown_fields=True):
    """How often a user may see one ad."""

    most: Annotated[int, Meta(ge=1)]
    """An ad that was seen this often is not eligible."""
    window_ms: Annotated[int, Meta(ge=1, le=MAX_TIME_MS)] | None = None
    """How far back the history counts; None: as far as it is kept."""
    actions: Values | None = None
    """The events that count; None: every one that names the ad."""
    seen: dict[Unsigned63, Annotated[int, Meta(ge=0)]] | None = None
    """ad id -> how often, by the caller's own count; None counts the user's history."""


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request for the best ads for one user."""

    request_id: NonEmpty
    user_id: Id
    user: dict[str, Values] = {}
    """The profile; an absent field is unknown."""
    k: Annotated[int, Meta(ge=1)] = 10
    """How many ads to answer with."""
    candidates: Annotated[int, Meta(ge=1)] | tuple[Id, ...] | None = None
    """The ads to choose from, by id; or how many ads retrieval hands to the ranker. None: all ads,
    and the worker's setting."""
    filters: dict[str, Rule] = {}
    """Conditions on the ads' own features."""
    context: dict[str, Values] = {}
    deadline_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] | None = None
    """Milliseconds after the record's own time; None waits."""
    seed: Unsigned63 | None = None
    now_ms: TimeMs | None = None
    """Overrides the worker's clock for this request."""
    min_offsets: dict[str, dict[int, int]] = {}
    """topic -> partition -> next offset that the answer's state must include."""
    max_staleness_ms: Annotated[int, Meta(ge=0)] | None = None
    mode: Literal["full", "sparse"] = "full"
    rank: bool = True
    max_per_advertiser: Annotated[int, Meta(ge=1)] | None = None
    """How many ads of one advertiser may be in the answer; None: any number."""
    frequency_cap: FrequencyCap | None = None

    @property
    def effective_seed(self) -> int:
        """`seed`, or the request id's own when none was given."""
        return default_seed(self.request_id) if self.seed is None else self.seed


class ScoredAd(Struct, frozen=True):
    """One ad of an answer."""

    ad_id: Id
    score: float
    """Retrieval's score."""
    value: float
    """What the answer is ordered by."""
    tasks: dict[str, float] = {}
    """Task (engage, consume) -> calibrated probability; empty without a ranker."""
    factors: dict[str, float] = {}
    """Why this value: bid, engage and consume, each raised to its configured power; their product
    is the value. Empty where the value is retrieval's score."""


class ErrorBody(Struct, frozen=True):
    """Why a request has no answer."""

    code: str
    message: str


class ScoreResponse(Struct, frozen=True, kw_only=True):
    """An answer, with the state that it was made from."""

    request_id: str
    user_id: Id
    ads: tuple[ScoredAd, ...] = ()
    models: dict[str, str] = {}
    """Part (retriever, ranker) -> version that served, or "none"."""
    epoch: int = 0
    offsets: dict[str, dict[int, int]] = {}
    """topic -> partition -> next offset not yet applied."""
    flags: tuple[str, ...] = ()
    error: ErrorBody | None = None


class MatchedFeature(Struct, frozen=True):
    """A feature that an ad and a request's query share."""

    feature: str
    """field=value."""
    ad_weight: float
    """Within (0, 1]."""
    query_weight: float
    points: int
    """What it adds to the score, in units."""


class Explanation(Struct, frozen=True, kw_only=True):
    """What one ad is to one request, with the state that this was judged by."""

    request_id: str
    user_id: int
    ad_id: int
    present: bool
    version: int | None = None
    shard: str | None = None
    slot: int | None = None
    eligible: bool
    reasons: tuple[str, ...] = ()
    """The rules that say no."""
    score: float | None = None
    """points * unit, as in the answer to the request."""
    points: int | None = None
    """The sum of all parts, exactly."""
    unit: float | None = None
    features: tuple[MatchedFeature, ...] = ()
    """Greatest effect first."""
    dense: int | None = None
    """Points of the embedding product."""
    bias: int | None = None
    """Points of the bid's bias."""
    rank: int | None = None
    """Place among the eligible ads, from 1, before the cut."""
    cut: int
    """How many ads retrieval hands on."""
    models: dict[str, str] = {}
    epoch: int = 0
    offsets: dict[str, dict[int, int]] = {}


class ServedAd(Struct, frozen=True):
    """One ad of an impression, with the features that it was served with."""

    ad_id: Id
    rank: int
    score: float
    value: float
    features: dict[str, dict[str, float]] = {}


class Impression(Struct, frozen=True, kw_only=True):
    """What one answer served: the input of later training."""

    request_id: str
    user_id: Id
    user: dict[str, Values] = {}
    time_ms: int
    ads: tuple[ServedAd, ...] = ()
    models: dict[str, str] = {}
    arm: str = ""
    context: dict[str, Values] = {}


def default_seed(request_id: str) -> int:
    """The seed of a request that names none.

    The first eight bytes of BLAKE2b-64 of the id in UTF-8, read little-endian, without the sign
    bit; so it is the same on every worker, machine and version.
    """
    digest = blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_ID

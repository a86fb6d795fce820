from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ad(_message.Message):
    __slots__ = ("version", "advertiser", "campaign", "features", "targeting")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Features
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Features, _Mapping]] = ...) -> None: ...
    class TargetingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Rule
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TARGETING_FIELD_NUMBER: _ClassVar[int]
    version: int
    advertiser: str
    campaign: str
    features: _containers.MessageMap[str, Features]
    targeting: _containers.MessageMap[str, Rule]
    def __init__(self, version: _Optional[int] = ..., advertiser: _Optional[str] = ..., campaign: _Optional[str] = ..., features: _Optional[_Mapping[str, Features]] = ..., targeting: _Optional[_Mapping[str, Rule]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("version", "status", "budget_left", "pacing", "bid", "start_ms", "end_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_LEFT_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    status: str
    budget_left: float
    pacing: float
    bid: float
    start_ms: int
    end_ms: int
    def __init__(self, version: _Optional[int] = ..., status: _Optional[str] = ..., budget_left: _Optional[float] = ..., pacing: _Optional[float] = ..., bid: _Optional[float] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ...) -> None: ...

class ClockTick(_message.Message):
    __slots__ = ("time_ms",)
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    def __init__(self, time_ms: _Optional[int] = ...) -> None: ...

class UserEvent(_message.Message):
    __slots__ = ("event_id", "ad_id", "action", "time_ms", "value", "features")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    AD_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    ad_id: str
    action: str
    time_ms: int
    value: float
    features: _containers.MessageMap[str, Values]
    def __init__(self, event_id: _Optional[str] = ..., ad_id: _Optional[str] = ..., action: _Optional[str] = ..., time_ms: _Optional[int] = ..., value: _Optional[float] = ..., features: _Optional[_Mapping[str, Values]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "user", "k", "candidates", "filters", "context", "deadline_ms", "seed", "now_ms", "min_offsets", "max_staleness_ms", "mode", "rank", "max_per_advertiser", "frequency_cap")
    class UserEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    class FiltersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Rule
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    class MinOffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Offsets
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Offsets, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_ADVERTISER_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_CAP_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    user: _containers.MessageMap[str, Values]
    k: int
    candidates: Candidates
    filters: _containers.MessageMap[str, Rule]
    context: _containers.MessageMap[str, Values]
    deadline_ms: int
    seed: int
    now_ms: int
    min_offsets: _containers.MessageMap[str, Offsets]
    max_staleness_ms: int
    mode: str
    rank: bool
    max_per_advertiser: int
    frequency_cap: FrequencyCap
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., user: _Optional[_Mapping[str, Values]] = ..., k: _Optional[int] = ..., candidates: _Optional[_Union[Candidates, _Mapping]] = ..., filters: _Optional[_Mapping[str, Rule]] = ..., context: _Optional[_Mapping[str, Values]] = ..., deadline_ms: _Optional[int] = ..., seed: _Optional[int] = ..., now_ms: _Optional[int] = ..., min_offsets: _Optional[_Mapping[str, Offsets]] = ..., max_staleness_ms: _Optional[int] = ..., mode: _Optional[str] = ..., rank: _Optional[bool] = ..., max_per_advertiser: _Optional[int] = ..., frequency_cap: _Optional[_Union[FrequencyCap, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("request_id", "user_id", "ads", "models", "epoch", "offsets", "flags", "error")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class OffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Offsets
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Offsets, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ADS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    ads: _containers.RepeatedCompositeFieldContainer[ScoredAd]
    models: _containers.ScalarMap[str, str]
    epoch: int
    offsets: _containers.MessageMap[str, Offsets]
    flags: _containers.RepeatedScalarFieldContainer[str]
    error: Error
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., ads: _Optional[_Iterable[_Union[ScoredAd, _Mapping]]] = ..., models: _Optional[_Mapping[str, str]] = ..., epoch: _Optional[int] = ..., offsets: _Optional[_Mapping[str, Offsets]] = ..., flags: _Optional[_Iterable[str]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Impression(_message.Message):
    __slots__ = ("request_id", "user_id", "user", "time_ms", "ads", "models", "arm", "context")
    class UserEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ADS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    user: _containers.MessageMap[str, Values]
    time_ms: int
    ads: _containers.RepeatedCompositeFieldContainer[ServedAd]
    models: _containers.ScalarMap[str, str]
    arm: str
    context: _containers.MessageMap[str, Values]
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., user: _Optional[_Mapping[str, Values]] = ..., time_ms: _Optional[int] = ..., ads: _Optional[_Iterable[_Union[ServedAd, _Mapping]]] = ..., models: _Optional[_Mapping[str, str]] = ..., arm: _Optional[str] = ..., context: _Optional[_Mapping[str, Values]] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("values", "weights")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[str]] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class Weights(_message.Message):
    __slots__ = ("weights",)
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.ScalarMap[str, float]
    def __init__(self, weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("allow", "deny")
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    allow: Values
    deny: Values
    def __init__(self, allow: _Optional[_Union[Values, _Mapping]] = ..., deny: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...

class Candidates(_message.Message):
    __slots__ = ("ad_ids", "limit")
    AD_IDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ad_ids: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    def __init__(self, ad_ids: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ...) -> None: ...

class FrequencyCap(_message.Message):
    __slots__ = ("most", "window_ms", "actions", "seen")
    MOST_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    most: int
    window_ms: int
    actions: Values
    seen: Seen
    def __init__(self, most: _Optional[int] = ..., window_ms: _Optional[int] = ..., actions: _Optional[_Union[Values, _Mapping]] = ..., seen: _Optional[_Union[Seen, _Mapping]] = ...) -> None: ...

class Seen(_message.Message):
    __slots__ = ("times",)
    class TimesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TIMES_FIELD_NUMBER: _ClassVar[int]
    times: _containers.ScalarMap[str, int]
    def __init__(self, times: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Offsets(_message.Message):
    __slots__ = ("next",)
    class NextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    NEXT_FIELD_NUMBER: _ClassVar[int]
    next: _containers.ScalarMap[int, int]
    def __init__(self, next: _Optional[_Mapping[int, int]] = ...) -> None: ...

class ScoredAd(_message.Message):
    __slots__ = ("ad_id", "score", "value", "tasks", "factors")
    class TasksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FactorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    AD_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    ad_id: str
    score: float
    value: float
    tasks: _containers.ScalarMap[str, float]
    factors: _containers.ScalarMap[str, float]
    def __init__(self, ad_id: _Optional[str] = ..., score: _Optional[float] = ..., value: _Optional[float] = ..., tasks: _Optional[_Mapping[str, float]] = ..., factors: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ServedAd(_message.Message):
    __slots__ = ("ad_id", "rank", "score", "value", "features")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Weights
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Weights, _Mapping]] = ...) -> None: ...
    AD_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ad_id: str
    rank: int
    score: float
    value: float
    features: _containers.MessageMap[str, Weights]
    def __init__(self, ad_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., value: _Optional[float] = ..., features: _Optional[_Mapping[str, Weights]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

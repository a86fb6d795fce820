"""Every metric of Headwater, declared once.

Owns the registry, the names, the labels and the buckets. Promises that a label
only ever takes values from a bounded set: `topic` is a topic's name without
the configured prefix, `partition` one of its partitions, and `stage`,
`outcome`, `reason`, `shard_kind`, `part` and `queue` are words from the code,
never text from a record. When something is observed is its owner's decision.
"""

from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from .batches import BatchHistogram

# A registry of our own: libraries that register on the default one (Faust's
# sensors among them) cannot add series to a scrape unasked.
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

# Closed vocabularies. Their series exist from the first scrape on, so that
# `rate()` sees the step from zero; those of `daemon`'s words are made by it.
FRESHNESS_STAGES: Final = ("broker", "intake", "apply", "total")
REQUEST_STAGES: Final = ("features", "retrieve", "rank", "total")
StalledPart = Literal["event_loop", "intake", "scoring", "position"]
STALLED_PARTS: Final[tuple[StalledPart, ...]] = ("event_loop", "intake", "scoring", "position")
SHARD_KINDS: Final = ("base", "delta", "tail")

# The promise is a p99 of 50 ms, so the buckets are densest around it; a poll
# and a publication take 1-10 ms, and the coarse upper end is for catch-up,
# where records waited in Kafka for minutes.
FRESHNESS_BUCKETS_S: Final = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.020, 0.030, 0.040, 0.050, 0.060,
    0.075, 0.100, 0.150, 0.250, 0.500, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
)  # fmt: skip

# A light retrieval takes 0.25 ms and a ranking of 1,000 candidates tens of
# milliseconds; neighbouring bounds differ by a factor of 2 at most, so that an
# interpolated quantile is never off by more than that.
REQUEST_BUCKETS_S: Final = (
    0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.020, 0.030,
    0.050, 0.075, 0.100, 0.150, 0.250, 0.500, 1.0, 2.0,
)  # fmt: skip

# Below a millisecond lag is scheduling noise; a second of it costs a heartbeat.
LOOP_LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.010, 0.025, 0.050, 0.100, 0.250, 1.0, 5.0)

SNAPSHOT_BUCKETS_S: Final = (0.010, 0.030, 0.100, 0.300, 1.0, 3.0, 10.0, 30.0, 100.0)

# A rebalance without data takes a tenth of a second; the promise is 15 s.
TAKEOVER_BUCKETS_S: Final = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 15.0, 30.0, 100.0)

# The bucket at 0 counts requests that no ad was eligible for; a full answer of
# retrieval, 300 by default, ends on a bound.
CANDIDATE_BUCKETS: Final = (0, 1, 10, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000)

# Records: what came in, and what became of it.
RECORDS_APPLIED: Final = Counter(
    "headwater_records_applied",
    "Records whose effect is visible.",
    ("topic",),
    registry=REGISTRY,
)
RECORDS_REJECTED: Final = Counter(
    "headwater_records_rejected",
    "Records rejected and passed, by why.",
    ("topic", "reason"),
    registry=REGISTRY,
)
RECORDS_SKIPPED: Final = Counter(
    "headwater_records_skipped",
    "Valid records without effect, such as an old version, by why.",
    ("topic", "reason"),
    registry=REGISTRY,
)
RECORDS_MISPLACED: Final = Counter(
    "headwater_records_misplaced",
    "Records on another partition than the one where murmur2 puts their key.",
    ("topic",),
    registry=REGISTRY,
)
UNKNOWN_KEYS: Final = Counter(
    "headwater_unknown_keys",
    "Keys in records that this version does not know and ignored.",
    ("topic",),
    registry=REGISTRY,
)
INTAKE_PAUSED: Final = Gauge(
    "headwater_intake_paused",
    "1 while a topic waits because the index has no room for its records, else 0.",
    ("topic",),
    registry=REGISTRY,
)
OLDEST_UNAPPLIED: Final = Gauge(
    "headwater_oldest_unapplied_seconds",
    "Age of the oldest record that is not applied yet; 0 when nothing is pending.",
    ("topic",),
    registry=REGISTRY,
)
OFFSET_LAG: Final = Gauge(
    "headwater_offset_lag",
    "Offsets between the partition's end and what is applied.",
    ("topic", "partition"),
    registry=REGISTRY,
)
RECORDS_EXPIRED: Final = Counter(
    "headwater_records_expired",
    "Offsets that were gone from the topic before they were read.",
    ("topic",),
    registry=REGISTRY,
)
REPLAY_RATE: Final = Gauge(
    "headwater_replay_offsets_per_second",
    "Pace of the replay with which a start catches up; 0 when it has.",
    ("topic",),
    registry=REGISTRY,
)
REPLAY_LEFT_SECONDS: Final = Gauge(
    "headwater_replay_left_seconds",
    "How long that replay will take at its pace; 0 when it has caught up.",
    ("topic",),
    registry=REGISTRY,
)
STATE_REFUSED: Final = Counter(
    "headwater_state_refused",
    "Snapshots and histories that were not gone on from, by why.",
    ("reason",),
    registry=REGISTRY,
)
AD_FRESHNESS: Final = BatchHistogram(
    "headwater_ad_freshness_seconds",
    "From an ad's record time to the first moment a query can return it (stage total), "
    "and its parts: until fetched (broker), until decoded (intake), until published (apply).",
    "stage",
    FRESHNESS_STAGES,
    FRESHNESS_BUCKETS_S,
    REGISTRY,
)

# The index and the histories.
INDEX_ADS: Final = Gauge(
    "headwater_index_ads",
    "Ads that a query can see, by the kind of shard that holds them.",
    ("shard_kind",),
    registry=REGISTRY,
)
INDEX_BYTES: Final = Gauge(
    "headwater_index_bytes", "Memory of the index, by part.", ("part",), registry=REGISTRY
)
INDEX_EPOCH: Final = Gauge(
    "headwater_index_epoch", "Epoch of the view that queries get now.", registry=REGISTRY
)
SEALS: Final = Counter(
    "headwater_index_seals", "Tails closed into a delta shard.", registry=REGISTRY
)
COMPACTIONS: Final = Counter(
    "headwater_index_compactions", "Delta shards folded into a new base.", registry=REGISTRY
)
SNAPSHOT_SECONDS: Final = Histogram(
    "headwater_snapshot_seconds",
    "Time to write one snapshot of the index.",
    buckets=SNAPSHOT_BUCKETS_S,
    registry=REGISTRY,
)
SNAPSHOT_TIME: Final = Gauge(
    "headwater_snapshot_timestamp_seconds",
    "When the last snapshot was written, as Unix time; 0 before the first.",
    registry=REGISTRY,
)
HISTORY_USERS: Final = Gauge(
    "headwater_history_users", "Users with a stored history.", registry=REGISTRY
)
HISTORY_BYTES: Final = Gauge(
    "headwater_history_memory_bytes",
    "Memory of the histories that are kept ready for the models.",
    registry=REGISTRY,
)
HISTORY_READS: Final = Counter(
    "headwater_history_reads",
    "Histories read for a request: from memory (hit), or from disk (miss).",
    ("outcome",),
    registry=REGISTRY,
)
HISTORY_PARTITIONS: Final = Gauge(
    "headwater_history_partitions",
    "Partitions of the users: assigned by the group, and here with all of their events.",
    ("stage",),
    registry=REGISTRY,
)
TAKEOVER_SECONDS: Final = Histogram(
    "headwater_takeover_seconds",
    "From the group's decision to the last gained partition being caught up.",
    buckets=TAKEOVER_BUCKETS_S,
    registry=REGISTRY,
)
CHECKPOINTS: Final = Counter(
    "headwater_history_checkpoints",
    "Transactions of checkpoints, by outcome: written, failed, or fenced by a new owner.",
    ("outcome",),
    registry=REGISTRY,
)
CHECKPOINTED_USERS: Final = Counter(
    "headwater_history_checkpointed_users",
    "Histories written to user-histories.",
    registry=REGISTRY,
)
USERS_ERASED: Final = Counter(
    "headwater_users_erased", "Users erased by a record of user-events.", registry=REGISTRY
)

# Requests.
REQUEST_SECONDS: Final = Histogram(
    "headwater_request_seconds",
    "Time of a scoring request, by stage; total runs from receipt to the finished answer.",
    ("stage",),
    buckets=REQUEST_BUCKETS_S,
    registry=REGISTRY,
)
REQUESTS: Final = Counter(
    "headwater_requests",
    "Scoring requests by outcome: ok, or the code of the error that answered them.",
    ("outcome",),
    registry=REGISTRY,
)
REQUESTS_FORWARDED: Final = Counter(
    "headwater_requests_forwarded",
    "HTTP requests passed on to the user's owner, by outcome: answered or failed.",
    ("outcome",),
    registry=REGISTRY,
)
CANDIDATES: Final = Histogram(
    "headwater_request_candidates",
    "Candidates that retrieval handed to the ranker, per request.",
    buckets=CANDIDATE_BUCKETS,
    registry=REGISTRY,
)

IMPRESSIONS_LOGGED: Final = Counter(
    "headwater_impressions",
    "Answers logged on `impressions`, by outcome: sent, or failed to be.",
    ("outcome",),
    registry=REGISTRY,
)

# The process.
QUEUE_DEPTH: Final = Gauge(
    "headwater_queue_depth", "Items waiting between two threads.", ("queue",), registry=REGISTRY
)
EVENT_LOOP_LAG: Final = Histogram(
    "headwater_event_loop_lag_seconds",
    "How much later than asked the event loop woke up.",
    buckets=LOOP_LAG_BUCKETS_S,
    registry=REGISTRY,
)
KAFKA_SILENCE: Final = Gauge(
    "headwater_kafka_silence_seconds",
    "Since a broker last answered; asked every second, whatever the topics do.",
    registry=REGISTRY,
)
STALLS: Final = Counter(
    "headwater_stalls",
    "Times that a part stood still for longer than the watchdog's limit.",
    ("part",),
    registry=REGISTRY,
)
READY: Final = Gauge(
    "headwater_ready", "1 when the worker takes requests, else 0.", registry=REGISTRY
)
BUILD_INFO: Final = Info("headwater_build", "What this worker runs on.", registry=REGISTRY)

for _stage in REQUEST_STAGES:
    REQUEST_SECONDS.labels(_stage)
for _part in STALLED_PARTS:
    STALLS.labels(_part)
for _shard_kind in SHARD_KINDS:
    INDEX_ADS.labels(_shard_kind)
for _outcome in ("hit", "miss"):
    HISTORY_READS.labels(_outcome)
for _outcome in ("written", "failed", "fenced"):
    CHECKPOINTS.labels(_outcome)
for _outcome in ("sent", "failed"):
    IMPRESSIONS_LOGGED.labels(_outcome)
for _outcome in ("answered", "failed"):
    REQUESTS_FORWARDED.labels(_outcome)

"""What the Headwater dashboard shows: its rows and panels.

Owns the choice of queries, units and thresholds. How an expression is written
is `queries`', and how a panel becomes Grafana's JSON is `dashboard`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .queries import Query, age, gauge, mean, quantile, quantiles, rate, readiness, rises, slope


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what is shown.
        meaning: how to read it, shown as the panel's tooltip.
        unit: Grafana's id of the unit.
        queries: at least one.
        kind: a chart over time, or the value now.
        bounds: values from which the panel is amber and red; None if no value
            is bad in itself. Descending bounds mean that low is bad.
        value_names: words shown instead of numbers.
    """

    title: str
    meaning: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    bounds: tuple[float, float] | None = None
    value_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A titled band of panels of equal width."""

    title: str
    panels: tuple[Panel, ...]


_FRESHNESS: Final = "headwater_ad_freshness_seconds"
_REQUEST: Final = "headwater_request_seconds"
_PENDING: Final = "headwater_oldest_unapplied_seconds"
_TOTAL: Final = 'stage="total"'

# The promise is 50 ms at the 99th percentile, for ads.
_FRESHNESS_BOUNDS_S: Final = (0.030, 0.050)
_REQUEST_BOUNDS_S: Final = (0.100, 0.250)
# Kafka's heartbeats are due every second or so.
_LOOP_LAG_BOUNDS_S: Final = (0.025, 0.250)
_PENDING_BOUNDS_S: Final = (1.0, 10.0)

_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Ready",
            "Whether each worker takes requests; no too for one that cannot be scraped.",
            "none",
            (readiness("headwater_ready", "{{instance}}"),),
            kind="stat",
            bounds=(1, 0.5),
            value_names={0: "no", 1: "yes"},
        ),
        Panel(
            "Freshness p99",
            "99 of 100 new or changed ads could be in an answer within this time.",
            "s",
            (quantile(0.99, _FRESHNESS, "p99", matchers=_TOTAL),),
            kind="stat",
            bounds=_FRESHNESS_BOUNDS_S,
        ),
        Panel(
            "Request p99",
            "99 of 100 requests were answered within this time.",
            "s",
            (quantile(0.99, _REQUEST, "p99", matchers=_TOTAL),),
            kind="stat",
            bounds=_REQUEST_BOUNDS_S,
        ),
        Panel(
            "Requests",
            "Scoring requests a second, whatever their outcome.",
            "reqps",
            (rate("headwater_requests_total", "all"),),
            kind="stat",
        ),
        Panel(
            "Ads",
            "Ads that a query can see, per worker.",
            "short",
            (gauge("headwater_index_ads", "{{instance}}", by="instance"),),
            kind="stat",
        ),
        Panel(
            "Oldest pending record",
            "Age of the oldest record that some worker has not applied yet.",
            "s",
            (gauge(_PENDING, "oldest", how="max"),),
            kind="stat",
            bounds=_PENDING_BOUNDS_S,
        ),
    ),
)

_FRESHNESS_ROW: Final = Row(
    "Freshness",
    (
        Panel(
            "Freshness",
            "From an ad's record time to the first moment a query can return it.",
            "s",
            quantiles(_FRESHNESS, _TOTAL),
            bounds=_FRESHNESS_BOUNDS_S,
        ),
        Panel(
            "Freshness p99 by stage",
            "Where the time goes: in Kafka, until decoded, until published.",
            "s",
            (quantile(0.99, _FRESHNESS, "{{stage}}", by="stage"),),
        ),
        Panel(
            "Oldest pending record by topic",
            "0 when nothing is pending; a straight rise means a stuck or paused reader.",
            "s",
            (gauge(_PENDING, "{{topic}}", by="topic", how="max"),),
            bounds=_PENDING_BOUNDS_S,
        ),
    ),
)

_REQUESTS: Final = Row(
    "Requests",
    (
        Panel(
            "Requests by outcome",
            "Everything but ok is an error that the caller was told.",
            "reqps",
            (rate("headwater_requests_total", "{{outcome}}", by="outcome"),),
        ),
        Panel(
            "Request time",
            "From receipt to the finished answer.",
            "s",
            quantiles(_REQUEST, _TOTAL),
            bounds=_REQUEST_BOUNDS_S,
        ),
        Panel(
            "Request p99 by stage",
            "Which part of a request is slow.",
            "s",
            (quantile(0.99, _REQUEST, "{{stage}}", by="stage"),),
        ),
        Panel(
            "Impressions",
            "Answers logged a second, or failed to be.",
            "cps",
            (rate("headwater_impressions_total", "{{outcome}}", by="outcome"),),
        ),
        Panel(
            "Candidates",
            "How many ads retrieval hands to the ranker.",
            "short",
            quantiles("headwater_request_candidates"),
        ),
    ),
)

_STREAMS: Final = Row(
    "Streams",
    (
        Panel(
            "Records applied",
            "Records a second whose effect became visible.",
            "cps",
            (rate("headwater_records_applied_total", "{{topic}}", by="topic"),),
        ),
        Panel(
            "Offset lag",
            "Offsets between the end of the topic and what is applied.",
            "short",
            (gauge("headwater_offset_lag", "{{topic}}", by="topic"),),
        ),
        Panel(
            "Silence of Kafka",
            "Time since a broker last answered; each worker asks every second.",
            "s",
            (gauge("headwater_kafka_silence_seconds", "{{instance}}", by="instance"),),
            bounds=_PENDING_BOUNDS_S,
        ),
        Panel(
            "Replay left",
            "How long the replay of a start will take at its pace; 0 when it has caught up.",
            "s",
            (gauge("headwater_replay_left_seconds", "{{topic}}", by="topic"),),
        ),
        Panel(
            "Replay pace",
            "Offsets a second while a start catches up.",
            "cps",
            (gauge("headwater_replay_offsets_per_second", "{{topic}}", by="topic"),),
        ),
        Panel(
            "Intake paused",
            "1 while a topic waits because the index has no room for its records.",
            "short",
            (gauge("headwater_intake_paused", "{{topic}}", by="topic"),),
        ),
        Panel(
            "Rejected",
            "Records sent to the dead-letter topic since the point before, by why.",
            "short",
            (rises("headwater_records_rejected_total", "{{topic}}: {{reason}}", "topic, reason"),),
        ),
        Panel(
            "Skipped and unknown",
            "Valid records without effect, and keys that this version ignores.",
            "cps",
            (
                rate("headwater_records_skipped_total", "{{topic}}: {{reason}}", "topic, reason"),
                rate("headwater_unknown_keys_total", "{{topic}}: unknown keys", by="topic"),
            ),
        ),
        Panel(
            "Expired and refused",
            "Offsets that were gone before they were read, and state not gone on from.",
            "short",
            (
                rises("headwater_records_expired_total", "{{topic}}: expired", by="topic"),
                rises("headwater_state_refused_total", "refused: {{reason}}", by="reason"),
            ),
        ),
    ),
)

_INDEX: Final = Row(
    "Index and histories",
    (
        Panel(
            "Ads by shard",
            "The tail is searchable but not compressed; deltas wait for compaction.",
            "short",
            (gauge("headwater_index_ads", "{{shard_kind}}", by="shard_kind"),),
        ),
        Panel(
            "Index memory",
            "Bytes by part of the index.",
            "bytes",
            (gauge("headwater_index_bytes", "{{part}}", by="part"),),
        ),
        Panel(
            "Publications, seals, compactions",
            "New views, closed tails and new bases a second.",
            "cps",
            (
                slope("headwater_index_epoch", "publications"),
                rate("headwater_index_seals_total", "seals"),
                rate("headwater_index_compactions_total", "compactions"),
            ),
        ),
        Panel(
            "Age of the last snapshot",
            "What a restart has to read again; no line before the first snapshot.",
            "s",
            (age("headwater_snapshot_timestamp_seconds", "{{instance}}", by="instance"),),
        ),
        Panel(
            "Snapshot time",
            "Mean time to write a snapshot.",
            "s",
            (mean("headwater_snapshot_seconds", "mean"),),
        ),
        Panel(
            "Users with a history",
            "Users whose events this worker holds.",
            "short",
            (gauge("headwater_history_users", "{{instance}}", by="instance"),),
        ),
    ),
)
_USERS: Final = Row(
    "Users and their workers",
    (
        Panel(
            "Partitions of the users",
            "Assigned by the group, and here with all of their events.",
            "short",
            (
                gauge(
                    "headwater_history_partitions", "{{instance}} {{stage}}", by="instance, stage"
                ),
            ),
        ),
        Panel(
            "Take-over",
            "Mean time from the group's decision until the gained users are here.",
            "s",
            (mean("headwater_takeover_seconds", "mean"),),
        ),
        Panel(
            "Checkpoints",
            "Transactions and histories a second written to user-histories.",
            "cps",
            (
                rate("headwater_history_checkpoints_total", "{{outcome}}", by="outcome"),
                rate("headwater_history_checkpointed_users_total", "histories"),
            ),
        ),
        Panel(
            "Histories read",
            "From memory (hit) or from disk (miss), a second.",
            "cps",
            (rate("headwater_history_reads_total", "{{outcome}}", by="outcome"),),
        ),
        Panel(
            "Memory of histories",
            "Bytes of the histories that are kept ready for the models.",
            "bytes",
            (gauge("headwater_history_memory_bytes", "{{instance}}", by="instance"),),
        ),
        Panel(
            "Forwarded, misplaced, erased",
            "Requests passed on, records on a wrong partition and users erased, a second.",
            "cps",
            (
                rate("headwater_requests_forwarded_total", "forwarded: {{outcome}}", by="outcome"),
                rate("headwater_records_misplaced_total", "misplaced: {{topic}}", by="topic"),
                rate("headwater_users_erased_total", "erased"),
            ),
        ),
    ),
)

_RESOURCES: Final = Row(
    "Resources",
    (
        Panel(
            "CPU",
            "Cores in use.",
            "short",
            (rate("process_cpu_seconds_total", "{{instance}}", by="instance"),),
        ),
        Panel(
            "Memory",
            "Resident bytes of the daemon.",
            "bytes",
            (gauge("process_resident_memory_bytes", "{{instance}}", by="instance"),),
        ),
        Panel(
            "Event loop lag p99",
            "Late wake-ups delay heartbeats and answers.",
            "s",
            (quantile(0.99, "headwater_event_loop_lag_seconds", "{{instance}}", by="instance"),),
            bounds=_LOOP_LAG_BOUNDS_S,
        ),
        Panel(
            "Stalls",
            "Times that a part stood still for longer than the watchdog's limit.",
            "short",
            (rises("headwater_stalls_total", "{{part}}", by="part"),),
        ),
        Panel(
            "Queues",
            "Items waiting between two threads.",
            "short",
            (gauge("headwater_queue_depth", "{{queue}}", by="queue"),),
        ),
        Panel(
            "Open files",
            "Sockets, snapshot files and the history store's tables.",
            "short",
            (gauge("process_open_fds", "{{instance}}", by="instance"),),
        ),
        Panel(
            "Build",
            "Workers by what they run on; more than one line during a roll-out.",
            "short",
            (
                gauge(
                    "headwater_build_info",
                    "{{version}}, torch {{torch}}, numba {{numba}}, {{device}}",
                    by="version, torch, numba, device",
                ),
            ),
        ),
    ),
)

ROWS: Final = (_NOW, _FRESHNESS_ROW, _REQUESTS, _STREAMS, _INDEX, _USERS, _RESOURCES)

"""The declarations keep the project's rules for names, labels and buckets."""

import re

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from monitoring import metrics
from monitoring.batches import BatchHistogram
from monitoring.build import record_build

DECLARED = {
    name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)
}
CONTRACT = {
    "headwater_ad_freshness_seconds": ("stage",),
    "headwater_request_seconds": ("stage",),
    "headwater_requests_total": ("outcome",),
    "headwater_records_applied_total": ("topic",),
    "headwater_records_rejected_total": ("topic", "reason"),
    "headwater_oldest_unapplied_seconds": ("topic",),
    "headwater_offset_lag": ("topic", "partition"),
    "headwater_index_ads": ("shard_kind",),
    "headwater_build_info": (),
}
# Every label has a bounded set of values; a new one needs that argument first.
BOUNDED_LABELS = {
    "stage", "outcome", "topic", "partition", "reason", "shard_kind", "part", "queue"
}  # fmt: skip


def test_a_batch_of_observations_counts_as_one_after_the_other() -> None:
    amounts = np.array([0.0, 0.001, 0.5, 1.0, 1.0000001, 7.5, 1e9])
    one, many = (
        BatchHistogram("h", "H.", ("l",), buckets=(0.5, 1.0, 8.0), registry=CollectorRegistry())
        for _ in range(2)
    )
    for amount in amounts:
        one.labels("a").observe(amount)
    many.labels("a").observe_all(amounts)
    many.labels("a").observe_all(amounts[:0])
    wanted, found = (
        [s for m in h.collect() for s in m.samples if "_created" not in s.name] for h in (one, many)
    )
    assert [s[:3] for s in found] == [s[:3] for s in wanted]


def exposed_name(metric: MetricWrapperBase) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(metric._type, "")
    return metric._name + suffix


def test_the_metrics_that_others_query_have_their_names_and_labels() -> None:
    declared = {exposed_name(m): m._labelnames for m in DECLARED.values()}
    assert {name: declared.get(name) for name in CONTRACT} == CONTRACT


@pytest.mark.parametrize("constant", DECLARED)
def test_names_are_headwater_and_in_base_units(constant: str) -> None:
    name = exposed_name(DECLARED[constant])
    assert re.fullmatch(r"headwater(_[a-z]+)+", name)
    assert not re.search(r"_(ms|millis|milliseconds|minutes|mb|kb|percent)(_|$)", name)


@pytest.mark.parametrize("constant", DECLARED)
def test_labels_are_bounded(constant: str) -> None:
    assert set(DECLARED[constant]._labelnames) <= BOUNDED_LABELS


@pytest.mark.parametrize("constant", DECLARED)
def test_every_metric_says_what_it_counts(constant: str) -> None:
    assert DECLARED[constant]._documentation.endswith(".")


@pytest.mark.parametrize(
    "buckets",
    [
        metrics.FRESHNESS_BUCKETS_S,
        metrics.REQUEST_BUCKETS_S,
        metrics.LOOP_LAG_BUCKETS_S,
        metrics.SNAPSHOT_BUCKETS_S,
        metrics.CANDIDATE_BUCKETS,
    ],
)
def test_buckets_rise(buckets: tuple[float, ...]) -> None:
    assert list(buckets) == sorted(set(buckets))


def test_the_freshness_promise_is_a_bucket_bound() -> None:
    """Otherwise "p99 <= 50 ms" would rest on interpolation."""
    assert 0.050 in metrics.FRESHNESS_BUCKETS_S


def test_closed_vocabularies_are_in_the_first_scrape() -> None:
    text = generate_latest(metrics.REGISTRY).decode()
    for stage in metrics.REQUEST_STAGES:
        assert f'headwater_request_seconds_count{{stage="{stage}"}}' in text
    for stage in metrics.FRESHNESS_STAGES:
        assert f'headwater_ad_freshness_seconds_count{{stage="{stage}"}}' in text
    for shard_kind in metrics.SHARD_KINDS:
        assert f'headwater_index_ads{{shard_kind="{shard_kind}"}}' in text


def test_build_info_tells_versions_and_device() -> None:
    record_build(device="cpu")
    (family,) = (f for f in metrics.REGISTRY.collect() if f.name == "headwater_build")
    labels = family.samples[0].labels
    assert labels["device"] == "cpu"
    assert labels["python"].startswith("3.")
    assert set(labels) == {"version", "python", "numba", "torch", "device"}
    assert re.match(r"\d+\.\d+", labels["torch"])

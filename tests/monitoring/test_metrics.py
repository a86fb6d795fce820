"""The declarations keep the project's rules for names, labels and buckets."""

import re

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from monitoring import metrics
from monitoring.batches import BatchHistogram
from monitoring.build import record_build

Declared = MetricWrapperBase | BatchHistogram

DECLARED = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, Declared)}
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
    one, many = CollectorRegistry(), CollectorRegistry()
    buckets = (0.5, 1.0, 8.0)
    single = Histogram("h", "H.", ("l",), buckets=buckets, registry=one).labels("a")
    batched = BatchHistogram("h", "H.", "l", ("a",), buckets, many)
    for amount in amounts:
        single.observe(amount)
    batched.observe_all("a", amounts)
    batched.observe_all("a", amounts[:0])
    wanted, found = (
        [s for family in registry.collect() for s in family.samples if "_created" not in s.name]
        for registry in (one, many)
    )
    assert [s[:3] for s in found] == [s[:3] for s in wanted]


def test_a_second_metric_of_a_batch_histograms_name_is_refused() -> None:
    registry = CollectorRegistry()
    BatchHistogram("h", "H.", "l", ("a",), (1.0,), registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("h", "H.", registry=registry)


def exposed_name(metric: Declared) -> str:
    if isinstance(metric, BatchHistogram):
        return metric.name
    suffix = {"counter": "_total", "info": "_info"}.get(metric._type, "")
    return metric._name + suffix


def label_names(metric: Declared) -> tuple[str, ...]:
    return (metric.label,) if isinstance(metric, BatchHistogram) else metric._labelnames


def documentation(metric: Declared) -> str:
    if isinstance(metric, BatchHistogram):
        return metric.documentation
    return metric._documentation


def test_the_metrics_that_others_query_have_their_names_and_labels() -> None:
    declared = {exposed_name(m): label_names(m) for m in DECLARED.values()}
    assert {name: declared.get(name) for name in CONTRACT} == CONTRACT


@pytest.mark.parametrize("constant", DECLARED)
def test_names_are_headwater_and_in_base_units(constant: str) -> None:
    name = exposed_name(DECLARED[constant])
    assert re.fullmatch(r"headwater(_[a-z]+)+", name)
    assert not re.search(r"_(ms|millis|milliseconds|minutes|mb|kb|percent)(_|$)", name)


@pytest.mark.parametrize("constant", DECLARED)
def test_labels_are_bounded(constant: str) -> None:
    assert set(label_names(DECLARED[constant])) <= BOUNDED_LABELS


@pytest.mark.parametrize("constant", DECLARED)
def test_every_metric_says_what_it_counts(constant: str) -> None:
    assert documentation(DECLARED[constant]).endswith(".")


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

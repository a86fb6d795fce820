"""Features as served = features as trained, on a data set of its own columns.

Its rows go both ways: as tables through the functions that training calls, and as records through
the codec, the history store and the caches that a worker asks. Only the broker is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import news_site
import numpy as np
import pyarrow.compute as pc
import pytest
from aiokafka import ConsumerRecord

from daemon.datasets import mapping, parquet
from daemon.datasets.recording import MappedRecording
from daemon.features import FeatureMap
from daemon.histories import EncodedHistories
from daemon.models import Models
from daemon.translate import AdColumns
from gpuindex import AdBatch, FeatureDictionary
from model.features import Encoder
from model.ranker.examples import Histories
from model.schema import Schema
from model.value import ValueModel
from stream.codec import decode_ad, decode_event, encode_ad
from stream.histories import HistoryStore
from stream.publish import Outgoing
from stream.records import Ad
from stream.settings import Kafka

KAFKA = Kafka("nowhere:9092")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> mapping.DataMap:
    return mapping.load(news_site.write(tmp_path_factory.mktemp("news")).map)


@pytest.fixture
def histories(data: mapping.DataMap, tmp_path: Path) -> Iterator[EncodedHistories]:
    """What a worker knows of users after reading all of the replay."""
    store = HistoryStore.open(tmp_path, 1024)
    replayed = MappedRecording(KAFKA, data)
    records = [
        decode_event(received(sent), replayed.end_ms)
        for sent in replayed.events(replayed.first_ms, replayed.end_ms)
    ]
    # Backwards, because a topic may bring events late.
    store.apply(records[::-1], {})
    yield EncodedHistories(store, Encoder(data.fields), 10)
    store.close()


def received(sent: Outgoing) -> ConsumerRecord:
    topic, key, value, headers = sent
    sizes = (len(key or b""), len(value or b""))
    return ConsumerRecord(topic, 0, 0, 0, 0, key, value, None, *sizes, tuple(headers))


def batch_of(sent: Iterable[Outgoing], features: FeatureMap, encoder: Encoder) -> AdBatch:
    columns = AdColumns(features, Models(None, None, ValueModel(), encoder))
    for record in sent:
        columns.add(decode_ad(received(record)))
    return columns.batch()


def test_histories_as_served_are_those_that_were_trained_on(
    data: mapping.DataMap, histories: EncodedHistories
) -> None:
    """Also the order of what happened in one moment, which is several stories of one view."""
    encoder = Encoder(data.fields)
    tables = parquet.training_tables(data)
    fields = data.fields.carried(tables.events.column_names)
    assert fields == list(data.fields.item_fields)
    trained = Histories.from_tables(tables, encoder, fields)
    for user, user_id in enumerate(trained.users.tolist()):
        rows = slice(trained.bounds[user], trained.bounds[user + 1])
        served = histories.read(user_id)
        np.testing.assert_array_equal(served.time_ms, trained.events.time_ms[rows])
        np.testing.assert_array_equal(served.items, trained.events.ids[rows])
        np.testing.assert_array_equal(served.actions, trained.actions[rows])
        np.testing.assert_array_equal(served.values, trained.events.values[rows])
    assert (np.diff(trained.events.time_ms) == 0).any()


def test_ads_and_requests_as_served_are_those_that_were_trained_on(data: mapping.DataMap) -> None:
    """An ad comes as its record, a request with raw values; hour and weekday are of its now."""
    encoder = Encoder(data.fields)
    tables = parquet.training_tables(data)
    replayed = MappedRecording(KAFKA, data)
    sent = [record for record in replayed.ad_changes(replayed.start_ms) if record[0] == "ads"]
    batch = batch_of(sent, FeatureMap(FeatureDictionary(), encoder), encoder)
    payload = dict(zip(batch.ad_ids.tolist(), batch.payload, strict=True))
    shown = encoder.items_from_table(tables.visits)
    for ad_id, items in zip(tables.visits["ad_id"].to_pylist()[::7], shown[::7], strict=True):
        np.testing.assert_array_equal(payload[ad_id], items)

    users = {row["user_id"]: row for row in tables.users.to_pylist()}
    profiles = dict(
        zip(
            tables.users["user_id"].to_pylist(),
            encoder.profiles_from_table(tables.users),
            strict=True,
        )
    )
    contexts = encoder.contexts_from_table(tables.visits)
    for at, row in enumerate(tables.visits.to_pylist()[:200]):
        known = users[row["user_id"]]
        profile = {n: [known[n]] for n in ("country", "born") if known[n] is not None}
        np.testing.assert_array_equal(encoder.profile(profile), profiles[row["user_id"]])
        context = encoder.context({"device": [row["device"]]}, row["time_ms"])
        np.testing.assert_array_equal(context, contexts[at])
    assert len(np.unique(contexts[:, 1])) == 24
    assert len(np.unique(contexts[:, 2])) == 7


def test_the_index_knows_the_features_that_the_models_derive(data: mapping.DataMap) -> None:
    """Else a learned weight of a desk or of a length would find no posting list."""
    encoder = Encoder(data.fields)
    replayed = MappedRecording(KAFKA, data)
    sent = [record for record in replayed.ad_changes(replayed.start_ms) if record[0] == "ads"]
    dictionary = FeatureDictionary()
    features = FeatureMap(dictionary, encoder)
    batch = batch_of(sent, features, encoder)
    payload = np.unique(batch.payload[batch.payload > 0])
    ids, _ = features.resolve(payload, np.ones(len(payload), np.float32))
    keys = {dictionary.key(feature_id) for feature_id in ids.tolist()}
    assert len(ids) == len(payload)
    assert {"desk=sport/chess", "section=arts", "length=2"} <= keys
    for ad, items in enumerate(batch.payload):
        own = batch.feature_ids[batch.feature_offsets[ad] : batch.feature_offsets[ad + 1]]
        assert set(features.resolve(items[items > 0], items[items > 0])[0]) <= set(own.tolist())


def test_every_event_is_replayed_once_and_in_order(data: mapping.DataMap) -> None:
    replayed = MappedRecording(KAFKA, data)
    middle = (replayed.first_ms + replayed.end_ms) // 2
    parts = [(replayed.first_ms, middle), (middle, replayed.end_ms)]
    events = [
        decode_event(received(sent), replayed.end_ms).event
        for part in parts
        for sent in replayed.events(*part)
    ]
    times = parquet.events(data)["time_ms"]
    assert [event.time_ms for event in events] == times.to_pylist()
    assert len({event.event_id for event in events}) == len(events)
    assert pc.min(times).as_py() == replayed.first_ms


def test_whose_an_ad_is_can_be_a_field() -> None:
    """Advertiser and campaign stand beside an ad's features, not among them."""
    encoder = Encoder(Schema(("product", "advertiser", "campaign")))
    ad = Ad(1, "acme", "spring", {"product": {"p": 1.0}})
    nobody = Ad(1, features={"product": {"p": 1.0}})
    sent = [("ads", b"1", encode_ad(ad), ()), ("ads", b"2", encode_ad(nobody), ())]
    features = FeatureMap(FeatureDictionary(), encoder)
    (known, unknown) = batch_of(sent, features, encoder).payload.tolist()
    assert known == [
        encoder.raw_id(key) for key in ("product=p", "advertiser=acme", "campaign=spring")
    ]
    assert unknown == [encoder.raw_id("product=p"), 0, 0]

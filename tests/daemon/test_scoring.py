"""A request's way through retrieval, on an index alone: no model, no Kafka."""

import threading
from collections.abc import Mapping

import numpy as np
import pytest

from daemon.clock import ReplayClock
from daemon.features import FeatureMap
from daemon.histories import Expiry
from daemon.impressions import Impressions
from daemon.index_writer import Published
from daemon.models import Models
from daemon.scoring import RequestRefused, Scorer
from daemon.settings import Settings
from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings
from model.value import ValueModel
from stream.records import ScoreRequest
from stream.topics import USER_PARTITIONS

# More than one block of slots, or there is nothing to divide.
ADS = 150_000
NO_MODELS = Models(None, None, ValueModel(), None)
HELD = dict.fromkeys(range(USER_PARTITIONS), 0)


@pytest.fixture(scope="module")
def index() -> Index:
    """Ads without features, in an order of their biases that is not that of their ids."""
    index = Index(IndexSettings(0, 0, seal_ads=1_000))
    ad_ids = np.arange(ADS)
    none = np.zeros(ADS, np.bool_)
    index.apply(
        AdBatch(
            ad_ids=ad_ids,
            versions=np.ones(ADS, np.int64),
            deleted=none,
            feature_offsets=np.zeros(ADS + 1, np.int32),
            feature_ids=np.zeros(0, np.int32),
            weights=np.zeros(0, np.uint8),
            embeddings=np.zeros((ADS, 0), np.int8),
            payload=np.zeros((ADS, 0), np.int64),
            targeting=[None] * ADS,
        )
    )
    index.apply_delivery(
        DeliveryBatch(
            ad_ids=ad_ids,
            versions=np.ones(ADS, np.int64),
            reset=none,
            active=~none,
            start_ms=np.zeros(ADS, np.int64),
            end_ms=np.full(ADS, 10, np.int64),
            budget_left=np.full(ADS, np.inf),
            pacing=np.ones(ADS, np.float32),
            bid=np.ones(ADS, np.float32),
            bias=(ad_ids * 7919 % 1_000 / 1_000).astype(np.float32),
        )
    )
    index.seal()
    index.publish()
    return index


def scorer(index: Index, search_threads: int, held: Mapping[int, int] = HELD) -> Scorer:
    settings = Settings.model_validate({"scoring": {"search_threads": search_threads}})
    features = FeatureMap(index.features, None)
    return Scorer(
        models=NO_MODELS,
        features=features,
        histories=None,
        published=lambda: Published(index.view, {}),
        event_offsets=lambda: dict(held),
        events=lambda user_id, after_ms: [],
        expiry=Expiry(ReplayClock(), max_age_days=0),
        clock=ReplayClock(),
        settings=settings.scoring,
        query_bits=6,
        impressions=Impressions(settings.impressions, features),
    )


def test_an_answer_is_the_same_on_any_number_of_search_threads(index: Index) -> None:
    request = ScoreRequest(request_id="r", user_id=1, k=200, now_ms=5)
    alone = scorer(index, 1).score(request).response
    assert len({ad.score for ad in alone.ads}) > 1
    for count in (2, 3):
        assert scorer(index, count).score(request).response == alone


def test_a_search_is_shared_by_the_threads_that_the_settings_ask_for(index: Index) -> None:
    before = set(threading.enumerate())
    # Held, since its threads end with it.
    shared = scorer(index, 3)
    shared.score(ScoreRequest(request_id="r", user_id=1, k=200, now_ms=5))
    started = set(threading.enumerate()) - before
    # One at least, and two if the first was still at work when the second was wanted.
    assert {thread.name.split("_")[0] for thread in started} == {"search"}


def test_a_user_of_another_worker_is_not_scored(index: Index) -> None:
    """As if it had no history: its partition left after the request had been taken."""
    elsewhere = scorer(index, 1, held={})
    with pytest.raises(RequestRefused, match="moved to another worker") as refused:
        elsewhere.score(ScoreRequest(request_id="r", user_id=1, k=1, now_ms=5))
    assert refused.value.code == "not_owner"

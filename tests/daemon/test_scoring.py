"""A request's way through retrieval, on an index alone: no model, no Kafka."""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.clock import ReplayClock
from daemon.features import FeatureMap
from daemon.histories import EncodedHistories, Expiry
from daemon.impressions import Impressions
from daemon.index_writer import Published
from daemon.models import Models
from daemon.scoring import RequestRefused, Scorer
from daemon.settings import Settings
from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings
from model.features import Encoder
from model.ranker import Ranker
from model.ranker.calibration import Platt
from model.ranker.config import HstuConfig, MatchPair, MoaConfig, RankerConfig
from model.ranker.gesr import Gesr
from model.ranker.population import PopulationTable
from model.ranker.signals import Statistics, names
from model.schema import Schema
from model.value import ValueModel
from stream.histories import HistoryStore
from stream.records import ScoreRequest
from stream.topics import USER_PARTITIONS

# More than one block of slots, or there is nothing to divide.
ADS = 150_000
NO_MODELS = Models(None, None, ValueModel(), None)
HELD = dict.fromkeys(range(USER_PARTITIONS), 0)


def filled(index: Index, payload_width: int, bias: np.ndarray) -> Index:
    """Ads alike in all but their biases."""
    count = len(bias)
    none = np.zeros(count, np.bool_)
    index.apply(
        AdBatch(
            ad_ids=np.arange(count),
            versions=np.ones(count, np.int64),
            deleted=none,
            feature_offsets=np.zeros(count + 1, np.int32),
            feature_ids=np.zeros(0, np.int32),
            weights=np.zeros(0, np.uint8),
            embeddings=np.zeros((count, 0), np.int8),
            payload=np.ones((count, payload_width), np.int64),
            targeting=[None] * count,
        )
    )
    index.apply_delivery(
        DeliveryBatch(
            ad_ids=np.arange(count),
            versions=np.ones(count, np.int64),
            reset=none,
            active=~none,
            start_ms=np.zeros(count, np.int64),
            end_ms=np.full(count, 10, np.int64),
            budget_left=np.full(count, np.inf),
            pacing=np.ones(count, np.float32),
            bid=np.ones(count, np.float32),
            bias=bias.astype(np.float32),
        )
    )
    return index


@pytest.fixture(scope="module")
def index() -> Index:
    """Ads without features, in an order of their biases that is not that of their ids."""
    index = Index(IndexSettings(0, 0, seal_ads=1_000))
    filled(index, 0, np.arange(ADS) * 7919 % 1_000 / 1_000)
    index.seal()
    index.publish()
    return index


def scorer(
    index: Index,
    search_threads: int,
    held: Mapping[int, int] = HELD,
    models: Models = NO_MODELS,
    histories: EncodedHistories | None = None,
) -> Scorer:
    settings = Settings.model_validate({"scoring": {"search_threads": search_threads}})
    features = FeatureMap(index.features, models.encoder)
    return Scorer(
        models=models,
        features=features,
        histories=histories,
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


def ranker_of_scores(schema: Schema) -> Ranker:
    """Untrained, with the retriever's score among its signals."""
    moa = MoaConfig(
        profile=(),
        context=(),
        history=("product",),
        item=("product",),
        ro_query=(),
        nro_query=("product",),
        pairs=(MatchPair("product", "product"),),
        retrieved=True,
    )
    torch.manual_seed(0)
    model = Gesr(RankerConfig(moa, HstuConfig()), actions=2)
    model.moa.fit_signals(np.random.default_rng(0).normal(size=(200, len(names(moa)))))
    nobody = PopulationTable([], [])
    return Ranker(schema, model, Statistics(nobody, nobody, nobody, None), Platt.identity(2))


# A tower without any source is a bias, which is what is wanted here.
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_the_ranker_reads_the_score_that_an_ad_was_retrieved_with(tmp_path: Path) -> None:
    """Of ads alike in all else, those with one score have one probability, and others another."""
    schema = Schema(("product",), (), (), ("buy",))
    encoder = Encoder(schema)
    models = Models(None, ranker_of_scores(schema), ValueModel(), encoder)
    index = filled(Index(IndexSettings(0, 1)), 1, np.arange(20) % 3 - 1.0)
    index.publish()
    store = HistoryStore.open(tmp_path, 100)
    histories = EncodedHistories(store, encoder, 1 << 20)
    request = ScoreRequest(request_id="r", user_id=1, k=20, now_ms=5)
    ads = scorer(index, 1, models=models, histories=histories).score(request).response.ads
    store.close()
    scores = {ad.score for ad in ads}
    assert len(scores) == 3
    assert len({(ad.score, round(ad.tasks["engage"], 6)) for ad in ads}) == 3
    assert len({round(ad.tasks["engage"], 6) for ad in ads}) == 3

"""The real workload: ads of The Complete Journey, and what the trained retriever asks of them.

Owns what is taken of the data: ads of some weeks, histories up to a week, and
queries made of them as the worker makes its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from daemon import models, quality
from daemon.datasets import complete_journey as journey
from daemon.features import FeatureMap
from daemon.histories import EncodedHistories
from daemon.settings import ModelsSection, Settings, WorkerSection
from daemon.translate import AdColumns
from gpuindex import AdBatch, FeatureDictionary
from model.features import Request
from stream.codec import decode_ad, decode_event
from stream.histories import HistoryStore
from stream.settings import Kafka
from stream.topics import ADS, USER_PARTITIONS

from .workload import Ads, Weighted, Workload

KAFKA = Kafka("", "")
# All partitions of the users: their histories are here.
HELD = dict.fromkeys(range(USER_PARTITIONS), 0)

RETRIEVER = "retriever-demo"


@dataclass(frozen=True)
class Record:
    """A record as the codec wants it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Any
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


def settings_with(retriever: str = RETRIEVER, state_dir: Path = Path(".headwater")) -> Settings:
    """Settings that name a retriever."""
    return Settings(
        models=ModelsSection(retriever=retriever), worker=WorkerSection(state_dir=state_dir)
    )


def missing(settings: Settings) -> str | None:
    """Why there is no real workload, if there is none."""
    name = settings.models.retriever
    if (settings.checkpoints / name).is_dir():
        return None
    return f"skipped: no checkpoint {name} in {settings.checkpoints}; `make demo` trains it"


def ads_of(first_week: int, last_week: int, features: FeatureMap, served: models.Models) -> AdBatch:
    """The ads of some weeks, as they come week by week, as the intake makes columns of them."""
    recording = journey.Recording(KAFKA, first_week, last_week)
    columns = AdColumns(features, served)
    for week in range(first_week, last_week + 1):
        for change in recording.ad_changes(journey.week_start_ms(week)):
            record = Record(*change)
            if record.topic == KAFKA.topic(ADS) and record.value:
                columns.add(decode_ad(record))
    return columns.batch()


def histories(week: int, user_ids: Iterable[int], settings: Settings, folder: Path) -> HistoryStore:
    """What some users did before a week."""
    recording = journey.Recording(KAFKA, week, week)
    keys = {b"%d" % user_id for user_id in user_ids}
    store = HistoryStore.open(folder, settings.history.events)
    past = recording.events(recording.first_ms, recording.start_ms)
    events = [Record(*record) for record in past if record[1] in keys]
    store.apply([decode_event(record, recording.start_ms) for record in events], HELD)
    return store


def workload(settings: Settings, ads_count: int, queries_count: int) -> Workload:
    """Every ad of the data, week by week, cloned up to a number of ads.

    The year is cloned whole, again and again: an ad's clones never lie side by
    side. The queries are those of users whom the quality measure asks about.
    """
    served = models.load(settings)
    dictionary = FeatureDictionary()
    features = FeatureMap(dictionary, served.encoder)
    listed = _as_ads(ads_of(journey.FIRST_WEEK, journey.LAST_WEEK, features, served))
    assert served.retriever is not None
    return Workload(
        ads=listed.likened(np.arange(ads_count), np.arange(ads_count) % len(listed)),
        keys=dictionary.keys(),
        queries={"heavy_ms": _queries(settings, served, features, queries_count)},
        embedding_scale=served.retriever.embedding_scale,
    )


def _as_ads(batch: AdBatch) -> Ads:
    return Ads(
        batch.ad_ids,
        batch.feature_offsets.astype(np.int64),
        batch.feature_ids,
        batch.weights,
        batch.embeddings,
    )


def _queries(
    settings: Settings, served: models.Models, features: FeatureMap, count: int
) -> list[Weighted]:
    """What the retriever makes of some users."""
    week = quality.Week(quality.WEEKS[0], users=count)
    encoder, retriever = served.encoder, served.retriever
    assert encoder is not None
    assert retriever is not None
    asked = []
    with TemporaryDirectory() as folder:
        user_ids = [question.user_id for question in week.questions]
        store = histories(quality.WEEKS[0], user_ids, settings, Path(folder))
        encoded = EncodedHistories(store, encoder, settings.history.memory_budget_bytes)
        for question in week.questions:
            request = Request(
                profile=encoder.profile(question.profile),
                context=encoder.context(question.context, question.now_ms),
                now_ms=question.now_ms,
                history=encoded.read(question.user_id),
            )
            learned = retriever.query(request)
            asked.append(
                Weighted(*features.resolve(learned.raw_ids, learned.weights), learned.vector)
            )
        store.close()
    return asked

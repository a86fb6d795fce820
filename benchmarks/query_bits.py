"""What the bits of a query weight cost: recall of the trained retriever, and time, by `query_bits`.

`python -m benchmarks.query_bits --json FILE`. Asks the questions of the demo's quality measure of
one index of real ads, through the worker's own scoring, once for each number of bits.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daemon import models, quality
from daemon.clock import ReplayClock
from daemon.datasets import complete_journey as journey
from daemon.demo.story import QUALITY_WEEKS
from daemon.features import FeatureMap
from daemon.histories import EncodedHistories
from daemon.index_writer import Published
from daemon.scoring import Scorer
from daemon.settings import Settings
from daemon.translate import ad_batch
from gpuindex import Index, IndexSettings
from stream.codec import decode_ad, decode_event
from stream.histories import HistoryStore
from stream.records import ScoreRequest
from stream.settings import Kafka
from stream.topics import ADS

# 12 is as good as exact: a step is 1/4,095 of the greatest weight.
BITS = (2, 4, 6, 12)
REFERENCE_BITS = 12
# Enough ads for 100 products, of which many have several.
ADS_ASKED = 1_000


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


class WeekOfAds:
    """The ads of a week in an index, and histories of those who are asked about."""

    def __init__(self, week: int, settings: Settings, served: models.Models, folder: Path) -> None:
        self.questions = quality.Week(week).questions
        kafka = Kafka("", "")
        recording = journey.Recording(kafka, week, week)
        self._index = Index(IndexSettings(served.embedding_width, served.payload_width))
        self._features = FeatureMap(self._index.features, served.encoder)
        records = [Record(*record) for record in recording.ad_changes(recording.start_ms)]
        ads = [decode_ad(record) for record in records if record.topic == kafka.topic(ADS)]
        self._index.apply(ad_batch(ads, self._features, served))
        self._published = Published(self._index.publish(), {})
        asked = {b"%d" % question.user_id for question in self.questions}
        self._store = HistoryStore.open(folder / str(week), settings.history.events)
        past = recording.events(recording.first_ms, recording.start_ms)
        events = [Record(*record) for record in past if record[1] in asked]
        self._store.apply([decode_event(record, recording.start_ms) for record in events], {})
        self._settings, self._served = settings, served

    def scorer(self, bits: int) -> Scorer:
        """What answers with so many bits."""
        encoder = self._served.encoder
        assert encoder is not None
        return Scorer(
            models=self._served,
            features=self._features,
            histories=EncodedHistories(self._store, encoder, len(self.questions)),
            published=lambda: self._published,
            event_offsets=dict,
            events=self._store.read,
            clock=ReplayClock(),
            settings=self._settings.scoring,
            query_bits=bits,
        )


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Ask every question with every number of bits."""
    served = models.load(settings)
    recalls: defaultdict[int, list[float]] = defaultdict(list)
    shared: defaultdict[int, list[float]] = defaultdict(list)
    times_ms: defaultdict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in QUALITY_WEEKS:
            week = WeekOfAds(number, settings, served, Path(folder))
            scorers = {bits: week.scorer(bits) for bits in BITS}
            for question in week.questions:
                lists = {}
                for bits, scorer in scorers.items():
                    request = _request(question)
                    scorer.score(request)
                    began = time.thread_time()
                    answer = scorer.score(request)
                    times_ms[bits].append((time.thread_time() - began) * 1e3)
                    lists[bits] = quality.one_per_product(ad.ad_id for ad in answer.ads)
                    recalls[bits].append(quality.recall(lists[bits], question.bought))
                exact = set(lists[REFERENCE_BITS][: quality.K])
                for bits in BITS:
                    shared[bits].append(
                        len(exact.intersection(lists[bits][: quality.K])) / len(exact)
                    )
    rows = []
    for bits in BITS:
        lost = np.subtract(recalls[bits], recalls[REFERENCE_BITS])
        rows += [
            _row(f"recall@100/{bits}_bits", recalls[bits], "share"),
            _row(f"recall@100_difference/{bits}_bits", lost.tolist(), "share"),
            _row(f"shared@100/{bits}_bits", shared[bits], "share"),
            _row(f"request_ms/{bits}_bits", times_ms[bits], "ms"),
        ]
    return rows


def _request(question: quality.Question) -> ScoreRequest:
    return ScoreRequest(
        request_id="quality",
        user_id=question.user_id,
        user=dict(question.profile),
        context=dict(question.context),
        k=ADS_ASKED,
        candidates=ADS_ASKED,
        now_ms=question.now_ms,
        rank=False,
    )


def _row(axis: str, values: list[float], unit: str) -> dict[str, Any]:
    mean = quality.summary(values)
    return {
        "axis": axis,
        "system": "headwater",
        "value": mean.value,
        "unit": unit,
        "spread": mean.spread,
        "n": mean.n,
    }


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--retriever", default="retriever-demo", help="name of the checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path(".headwater"))
    options = parser.parse_args()
    settings = Settings(
        models={"retriever": options.retriever}, worker={"state_dir": options.state_dir}
    )
    if not (settings.checkpoints / options.retriever).is_dir():
        raise SystemExit(f"no checkpoint {options.retriever}; `make demo` trains it")
    rows = measure(settings)
    for row in rows:
        print(f"{row['axis']:32} {row['value']:9.4f} +- {row['spread']:.4f} {row['unit']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""What the bits of a query weight cost: recall of the trained retriever, and time, by `query_bits`.

`python -m benchmarks.query_bits --json FILE`. Asks the questions of the demo's quality measure of
one index of real ads, through the worker's own scoring, once for each number of bits.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daemon import models, quality
from daemon.clock import ReplayClock
from daemon.features import FeatureMap
from daemon.histories import EncodedHistories, Expiry
from daemon.impressions import Impressions
from daemon.index_writer import Published
from daemon.rows import Mean, Rows
from daemon.scoring import Scorer
from daemon.settings import Settings
from gpuindex import Index, IndexSettings
from stream.records import ScoreRequest

from . import command, real

# 12 is as good as exact: a step is 1/4,095 of the greatest weight.
BITS = (2, 4, 6, 12)
REFERENCE_BITS = 12
# Enough ads for 100 products, of which many have several.
ADS_ASKED = 1_000


class WeekOfAds:
    """The ads of a week in an index, and histories of those who are asked about."""

    def __init__(self, week: int, settings: Settings, served: models.Models, folder: Path) -> None:
        self.questions = quality.Week(week).questions
        self._index = Index(IndexSettings(served.embedding_width, served.payload_width))
        self._features = FeatureMap(self._index.features, served.encoder)
        self._index.apply(real.ads_of(week, week, self._features, served))
        self._published = Published(self._index.publish(), {})
        asked = [question.user_id for question in self.questions]
        self._store = real.histories(week, asked, settings, folder / str(week))
        self._settings, self._served = settings, served

    def scorer(self, bits: int) -> Scorer:
        """What answers with so many bits."""
        encoder = self._served.encoder
        assert encoder is not None
        return Scorer(
            models=self._served,
            features=self._features,
            histories=EncodedHistories(
                self._store, encoder, self._settings.history.memory_budget_bytes
            ),
            published=lambda: self._published,
            event_offsets=self._store.next_offsets,
            events=self._store.read,
            expiry=Expiry(ReplayClock(), max_age_days=0),
            clock=ReplayClock(),
            settings=self._settings.scoring,
            query_bits=bits,
            impressions=Impressions(self._settings.impressions, self._features),
        )


def measure(settings: Settings, weeks: Sequence[int]) -> Rows:
    """Ask every question of some weeks with every number of bits."""
    served = models.load(settings)
    recalls: defaultdict[int, list[float]] = defaultdict(list)
    shared: defaultdict[int, list[float]] = defaultdict(list)
    times_ms: defaultdict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in weeks:
            week = WeekOfAds(number, settings, served, Path(folder))
            scorers = {bits: week.scorer(bits) for bits in BITS}
            for question in week.questions:
                lists = {}
                for bits, scorer in scorers.items():
                    request = _request(question)
                    scorer.score(request)
                    began = time.thread_time()
                    answer = scorer.score(request).response
                    times_ms[bits].append((time.thread_time() - began) * 1e3)
                    lists[bits] = quality.one_per_product(ad.ad_id for ad in answer.ads)
                    recalls[bits].append(quality.recall(lists[bits], question.bought))
                exact = set(lists[REFERENCE_BITS][: quality.K])
                for bits in BITS:
                    shared[bits].append(
                        len(exact.intersection(lists[bits][: quality.K])) / len(exact)
                    )
    rows = Rows()
    for bits in BITS:
        lost = np.subtract(recalls[bits], recalls[REFERENCE_BITS])
        for axis, values, unit in (
            ("recall@100", recalls[bits], "share"),
            ("recall@100_difference", lost.tolist(), "share"),
            ("shared@100", shared[bits], "share"),
            ("request_ms", times_ms[bits], "ms"),
        ):
            rows.add_mean(f"{axis}/{bits}_bits", Mean.of(values), unit)
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


def main() -> None:
    """Measure, print, and write the rows."""
    parser = command.parser("query_bits", __doc__, quick="one week")
    parser.add_argument("--retriever", default=real.RETRIEVER, help="name of the checkpoint")
    parser.add_argument("--state-dir", type=Path, default=Path(".headwater"))
    options = parser.parse_args()
    settings = real.settings_with(options.retriever, options.state_dir)
    rows = Rows()
    if why := real.missing(settings):
        print(why)
    else:
        rows = measure(settings, quality.WEEKS[:1] if options.quick else quality.WEEKS)
    for row in rows.rows:
        print(f"{row.axis:32} {row.value:9.4f} +- {row.spread:.4f} {row.unit}")
    if options.json:
        rows.write(options.json)


if __name__ == "__main__":
    main()

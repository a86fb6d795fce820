"""`headwater serve` with calls that stall when a record or a request says so.

ad 1, asked for by HTTP      blocks the event loop for good
ad 2, on `ads`               blocks the intake thread for good
a request named stall        blocks the scoring thread for three seconds
ad 1,000 and above           makes its batch slow to decode
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from daemon import cli, environment
from daemon.settings import load

FOR_GOOD_S = 1_000.0

environment.prepare(load(Path(sys.argv[3])).worker)

from daemon.appliers import AdsApplier  # noqa: E402
from daemon.scoring import Scorer  # noqa: E402
from daemon.worker import Worker  # noqa: E402


class StallingWorker(Worker):
    """Blocks the event loop."""

    def ad(self, ad_id: int) -> dict[str, Any]:
        if ad_id == 1:
            time.sleep(FOR_GOOD_S)
        return super().ad(ad_id)


def decode(self: AdsApplier, messages: Any, fetched_ms: int) -> Any:
    ad_ids = [int(message.key) for message in messages]
    if 2 in ad_ids:
        time.sleep(FOR_GOOD_S)
    if max(ad_ids) >= 1_000:
        time.sleep(0.2)
    return _decode(self, messages, fetched_ms)


def score(self: Scorer, request: Any) -> Any:
    if request.request_id == "stall":
        time.sleep(3)
    return _score(self, request)


_decode, _score = AdsApplier.decode, Scorer.score
AdsApplier.decode, Scorer.score = decode, score  # type: ignore[method-assign]
sys.modules["daemon.worker"].Worker = StallingWorker  # type: ignore[attr-defined]

cli.main()

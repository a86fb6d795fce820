"""What was served, as records of `impressions`: the input of later training.

Owns which answers are logged and what is said of them. Promises that the features of a logged ad
are those that the models read when they scored it, by name, so that encoding them again gives the
same input; and that whether an answer is logged depends on its request's id alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.records import MAX_ID, Impression, ScoreRequest, ScoreResponse, ServedAd, default_seed

from .features import FeatureMap
from .settings import ImpressionsSection


class Impressions:
    """Turns answers into impressions."""

    def __init__(self, settings: ImpressionsSection, features: FeatureMap) -> None:
        self._limit = settings.share * (MAX_ID + 1)
        self._features = features

    def wants(self, request: ScoreRequest) -> bool:
        """Whether the answer to a request is logged."""
        # Not the default seed itself, which decides the pacing: the log would see some draws only.
        return default_seed(f"impression {request.request_id}") < self._limit

    def record(
        self,
        request: ScoreRequest,
        response: ScoreResponse,
        now_ms: int,
        items: NDArray[np.int64],
    ) -> Impression:
        """What an answer served.

        Args:
            request, response: question and answer.
            now_ms: the time that the models took for now.
            items: [n, F] int64, the item features of the answer's n ads as the models read them.
        """
        return Impression(
            request_id=request.request_id,
            user_id=request.user_id,
            user=request.user,
            context=request.context,
            time_ms=now_ms,
            ads=tuple(
                ServedAd(ad.ad_id, rank, ad.score, ad.value, self._features.named(raw_ids))
                for rank, (ad, raw_ids) in enumerate(
                    zip(response.ads, items.tolist(), strict=True), start=1
                )
            ),
            models=response.models,
        )

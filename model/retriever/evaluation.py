"""Evaluation: how much of what users bought the retriever finds, on periods it did not learn from.

Owns recall over one period's live items. Promises one entry per item: of several ads of an item
the best one counts.
"""

from __future__ import annotations

import numpy as np
import torch

from ..training import to_device
from .network import Network
from .periods import Period
from .tensors import PeriodTensors, UserTensors
from .vocabulary import Vocabulary

# As many candidates as a request passes on by default.
RECALL_AT = 100
_USERS = 128


def recall(network: Network, periods: list[Period], profiles: Vocabulary) -> tuple[float, int]:
    """Mean over users of the share of their bought items that are in their first `RECALL_AT`.

    Args:
        network: in evaluation mode.
        periods: with examples.
        profiles: vocabulary of profile and context values.

    Returns:
        The mean (NaN without users) and the number of users.
    """
    device = next(network.parameters()).device
    shares: list[float] = []
    for period in periods:
        items, item_at = np.unique(period.items[:, 0], return_inverse=True)
        ads = to_device(PeriodTensors.of(period), device)
        for start in range(0, len(period.examples), _USERS):
            part = period.examples[start : start + _USERS]
            users = UserTensors.of([example.user for example in part], period.values, profiles)
            with torch.inference_mode():
                scores = network(ads, to_device(users, device)).cpu().numpy()
            best = np.full((len(items), len(part)), -np.inf, np.float32)
            np.maximum.at(best, item_at, scores.T)
            order = np.argsort(-best, axis=0, kind="stable")[:RECALL_AT]
            for row, example in enumerate(part):
                bought = np.unique(item_at[example.bought])
                shares.append(float(np.isin(bought, order[:, row]).mean()))
    return (float(np.mean(shares)), len(shares)) if shares else (float("nan"), 0)

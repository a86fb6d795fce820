"""Loss: what training minimises, of a user's scores of all ads of a period.

Pairwise logistic, weighted by the change of NDCG and by the gap in value, after arXiv 2511.22460,
whose penalty is not public; with LambdaRank's weight (Burges et al.)
    lambda_ij = |delta NDCG_ij| * |log(1 + v_i) - log(1 + v_j)|
    loss = sum over y_i > y_j of lambda_ij * log(1 + exp(-(s_i - s_j))).
It minds the first places most. Listwise minds all alike, which finds more among thousands of ads:
    loss = sum over y_i of log(1 + v_i) * log(sum over j of exp(s_j - s_i)).
In both every ad of the period that a user did not buy is a negative, none is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

Loss = Literal["pairwise", "listwise"]


def pairwise_loss(scores: Tensor, values: Tensor) -> Tensor:
    """Mean loss of B users, each of whom counts alike.

    Ranks are those of the current scores, without gradient. Pairs of two bought ads are left out.

    Args:
        scores: [B, A] float32.
        values: [B, A] float32, what showing the ad to the user was worth; 0 = not bought.

    Returns:
        [] float32; 0 without any bought ad.
    """
    bought = values > 0
    users, ads = torch.nonzero(bought, as_tuple=True)
    if not len(users):
        return scores.sum() * 0
    count = scores.shape[1]
    with torch.no_grad():
        places = torch.arange(1, count + 1, dtype=scores.dtype, device=scores.device)
        order = scores.argsort(dim=1, descending=True, stable=True)
        ranks = torch.empty_like(scores).scatter_(1, order, places.expand_as(scores))
        discount = 1 / torch.log2(1 + ranks)
        positives = bought.sum(dim=1)
        ideal = torch.cumsum(1 / torch.log2(1 + places), 0)[positives.clamp(min=1) - 1]
        # Relevance is 0 or 1, so that the gains 2^y - 1 of any pair differ by one.
        change = (discount[users, ads][:, None] - discount[users]).abs() / ideal[users][:, None]
        weight = change * torch.log1p(values[users, ads])[:, None]
        weight = weight * ~bought[users] / positives[users][:, None]
    margins = scores[users, ads][:, None] - scores[users]
    return (weight * softplus(-margins)).sum() / len(scores)


def listwise_loss(scores: Tensor, values: Tensor) -> Tensor:
    """Mean loss of B users, each of whom counts alike; arguments as `pairwise_loss`."""
    shares = torch.log1p(values)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return -(shares * log_softmax(scores, dim=1)).sum() / len(scores)


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "pairwise": pairwise_loss,
    "listwise": listwise_loss,
}

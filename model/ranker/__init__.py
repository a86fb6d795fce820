"""The ranker: GESR over matches, self-attention and cross-attention, calibrated per task.

Owns what orders the retrieved candidates. ``gesr`` is the model read top-down, ``train`` how it
learns, ``ranker`` how it serves. Retrieval, bids and the value model are others'.
"""

from .backtest import ScoredVisits, Trial, VisitFeatures, backtest, try_out
from .presets import Preset, configure
from .ranker import Ranker
from .train import train_ranker

__all__ = [
    "Preset",
    "Ranker",
    "ScoredVisits",
    "Trial",
    "VisitFeatures",
    "backtest",
    "configure",
    "train_ranker",
    "try_out",
]

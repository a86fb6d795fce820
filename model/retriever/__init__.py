"""The retriever: two towers, their inner-product interactions and HitMatch weights.

After arXiv 2511.22460. Owns training and the queries that are asked of the index; promises that
both read the same numbers. Searching an index is not its business.
"""

from .backtest import Backtest
from .presets import PRESETS, Preset, RetrieverSettings
from .retriever import Retriever, RetrieverQuery
from .train import train_retriever

__all__ = [
    "PRESETS",
    "Backtest",
    "Preset",
    "Retriever",
    "RetrieverQuery",
    "RetrieverSettings",
    "train_retriever",
]

"""Ablation: what each part of the models is worth, by training them without it.

Owns the studies of `headwater ablate`: which systems are compared, on which slice of the data, by
which figures. Promises that all systems of a study learn from the same rows and are measured on
the same others, on which nothing is chosen. Training is `model`'s, rows are `daemon.rows`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .study import Study


class Name(StrEnum):
    """What can be ablated alone."""

    RANKER = "ranker"
    RETRIEVER = "retriever"
    HISTORY = "history"


def studies() -> Mapping[Name, Callable[[], Study]]:
    """What makes each study, in the order in which they run."""
    # Imported when asked for: torch takes seconds that other verbs need not wait.
    from .ranker import of_history, of_parts
    from .retriever import of_terms

    return {Name.RANKER: of_parts, Name.RETRIEVER: of_terms, Name.HISTORY: of_history}

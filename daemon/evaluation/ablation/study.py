"""Study: some systems, each trained with several seeds and measured by the same figures.

Owns the shapes that all studies share. What a system is and how it is trained is each study's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.progress import Progress

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Figure:
    """One measure of a study.

    Attributes:
        axis: its name in rows.
        title: its name for people.
        unit: of its values.
        falls: whether less is better.
    """

    axis: str
    title: str
    unit: str
    falls: bool = False


@dataclass(frozen=True)
class ByUser:
    """A figure whose value is a mean over users: [U] values, and [U] what each weighs."""

    values: Floats
    weights: Floats


@dataclass(frozen=True)
class Outcome:
    """What one run measured.

    Attributes:
        by_user: by figure.
        train_s: CPU seconds of its training.
        parameters: numbers that it learned.
    """

    by_user: Mapping[str, ByUser]
    train_s: float
    parameters: int


class Study(Protocol):
    """What is compared."""

    @property
    def name(self) -> str:
        """Its name, as the command line has it."""

    @property
    def reference(self) -> str:
        """The system that others are compared with."""

    @property
    def figures(self) -> Sequence[Figure]:
        """What is measured."""

    @property
    def systems(self) -> Mapping[str, str]:
        """The systems by name, and what each is, in order."""

    @property
    def about(self) -> str:
        """What is learned from what and measured on what, for the page."""

    def identity(self, system: str) -> Mapping[str, Any]:
        """JSON-ready; everything beside the seed that decides what a run measures."""

    def run(self, system: str, seed: int, progress: Progress) -> Outcome:
        """Train a system and measure it."""

"""Summary: means over seeds and users, how sure they are, and differences from the reference.

Owns the one rule of uncertainty. The variance of a mean over S seeds and U users is that of its
users, by bootstrap, plus that of its seeds over S; the latter is pooled over the systems of a
study, since three seeds alone say little. An interval is the mean and two standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...rows import Mean, Rows
from ..bootstrap import estimate, gain
from .study import Figure, Outcome, Study

INTERVAL = 2.0
TRAIN_S = "train_s"


@dataclass(frozen=True)
class Measured:
    """One figure of one system.

    Attributes:
        mean: of the system.
        less: it less the reference, None for the reference itself.
    """

    mean: Mean
    less: Mean | None


@dataclass(frozen=True)
class Summary:
    """A study with what came of it.

    Attributes:
        study: what was compared.
        seeds: how many trainings of each system.
        figures: by axis and system.
        train_s: CPU seconds of a training, by system.
        parameters: by system.
    """

    study: Study
    seeds: int
    figures: Mapping[str, Mapping[str, Measured]]
    train_s: Mapping[str, Mean]
    parameters: Mapping[str, int]

    @classmethod
    def of(cls, study: Study, outcomes: Mapping[str, Sequence[Outcome]]) -> Summary:
        """Sum up the outcomes of every system."""
        return cls(
            study,
            len(outcomes[study.reference]),
            {figure.axis: _measured(study, figure, outcomes) for figure in study.figures},
            {system: Mean.of([run.train_s for run in runs]) for system, runs in outcomes.items()},
            {system: runs[0].parameters for system, runs in outcomes.items()},
        )

    def add_to(self, rows: Rows) -> None:
        """Add all figures as rows."""
        study = self.study
        for figure in study.figures:
            axis = f"ablation/{study.name}/{figure.axis}"
            for system, one in self.figures[figure.axis].items():
                rows.add_mean(axis, one.mean, figure.unit, system=system)
                if one.less is not None:
                    less = f"{axis}/less_{study.reference}"
                    rows.add_mean(less, one.less, figure.unit, system=system)
        for system, took in self.train_s.items():
            rows.add_mean(f"ablation/{study.name}/{TRAIN_S}", took, "s", system=system)


def _measured(
    study: Study, figure: Figure, outcomes: Mapping[str, Sequence[Outcome]]
) -> dict[str, Measured]:
    values = {
        system: np.stack([run.by_user[figure.axis].values for run in runs])
        for system, runs in outcomes.items()
    }
    weights = outcomes[study.reference][0].by_user[figure.axis].weights
    of_seeds = [np.average(one, axis=1, weights=weights) for one in values.values()]
    seeds = len(of_seeds[0])
    variance = float(np.mean([one.var(ddof=1) for one in of_seeds])) / seeds if seeds > 1 else 0.0
    reference = values[study.reference]
    measured = {}
    for system, one in values.items():
        mean = estimate(one, weights)
        less = None
        if system != study.reference:
            found = gain(one, reference, weights)
            # Both systems have seeds of their own.
            less = Mean(found.value, float(np.hypot(found.spread, (2 * variance) ** 0.5)), found.n)
        spread = float(np.hypot(mean.spread, variance**0.5))
        measured[system] = Measured(Mean(mean.value, spread, mean.n), less)
    return measured

"""Ranking: the hard set's ads ordered for each visit, beside learners on the same features.

Owns which systems are measured on which weeks, and the rows that say so. Promises that nothing
is fitted or chosen on the test weeks: all systems learn from the training weeks, stop and are
calibrated on the validation weeks; the ranker then learns from these too, as its preset says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import read_manifest
from model.features import Encoder
from model.ranker import Ranker, VisitFeatures, backtest, configure, train_ranker
from model.ranker.calibration import Platt, sigmoid
from model.ranker.metrics import group_aucs

from ..datasets import complete_journey as journey
from ..datasets.complete_journey.hard import TEST_WEEK, HardSet, hard_set
from ..progress import training_bar
from ..training import SCHEMA, Kind, usable
from . import Run, trees
from .bootstrap import Estimate, estimate, gain
from .linear import LogisticRegression

PRESET: Final = "small"
ENGAGE = 0
_DECILES = 10

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Judged:
    """One system on the test weeks; users in the same order for all systems.

    Attributes:
        losses: [U] mean log loss of each user's rows, and rows: [U] how many they are.
        aucs: [W] AUC of each user with both labels, and auc_rows: [W] its rows.
        entropy: of the rows' own rate.
        calibration: mean prediction over rate, and of the decile that is farthest from 1.
    """

    losses: Floats
    rows: Floats
    aucs: Floats
    auc_rows: Floats
    entropy: float
    calibration: tuple[float, float]

    @property
    def entropies(self) -> Floats:
        """[U] a user's share of the normalised entropy, whose mean by rows it is."""
        return self.losses / self.entropy


def measure(run: Run) -> None:
    """Measure the ranker and its baselines on weeks 49 to 53."""
    with run.console.status("the hard set"):
        data = hard_set()
    rankers = [Ranker.load(_trained(run, data, seed)) for seed in range(run.seeds)]
    config = rankers[0].config
    encoder = Encoder(SCHEMA)
    with run.console.status("features of every visit"):
        visits = VisitFeatures.of(data.tables, encoder, config)
        served = VisitFeatures.of(data.tables, encoder, config, data.test, rankers[0])
    # Rows of features are in an order of their own, which keeps the weeks apart.
    starts = [journey.week_start_ms(week) for week in range(journey.LAST_WEEK + 2)]
    week = np.searchsorted(starts, visits.time_ms, side="right") - 1
    parts = replace(data, week=week.astype(np.int32))

    labels, users = visits.labels[parts.test, ENGAGE], visits.users[parts.test]
    ours = [
        judge(backtest(ranker, visits, parts.test).probabilities[:, ENGAGE], labels, users)
        for ranker in rankers
    ]
    _report(run, "headwater", ours)
    frozen = backtest(rankers[0], served, np.ones(len(served.users), np.bool_))
    aged = judge(frozen.probabilities[:, ENGAGE], frozen.labels[:, ENGAGE], frozen.users)
    _report(run, "headwater", [aged], "/frozen")
    for system, fit in (("logistic_regression", regress), ("lightgbm", grow_trees)):
        with run.console.status(system):
            scores = fit(visits, parts)
        if scores is None:
            run.console.print(f"{system} is not installed: install Headwater's extra `bench`")
            continue
        theirs = judge(scores[parts.test], labels, users)
        _report(run, system, [theirs])
        for axis, of_seed, of_theirs, weights in (
            ("ne", [one.entropies for one in ours], theirs.entropies, theirs.rows),
            ("gauc", [one.aucs for one in ours], theirs.aucs, theirs.auc_rows),
        ):
            found = gain(np.stack(of_seed), of_theirs, weights)
            _row(run, f"{axis}/hard/less_{system}", "headwater", found)


def judge(probabilities: Floats, labels: Floats, users: NDArray[np.int64]) -> Judged:
    """Measure one system.

    Args:
        probabilities, labels: [N].
        users: [N].
    """
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(labels > 0, np.log(p), np.log1p(-p))
    _, user, rows = np.unique(users, return_inverse=True, return_counts=True)
    rate = float(labels.mean())
    _, aucs, auc_rows = group_aucs(probabilities, labels, users)
    deciles = np.array_split(np.argsort(p, kind="stable"), _DECILES)
    # Half a positive, where a decile has none.
    ratios = [p[at].sum() / max(labels[at].sum(), 0.5) for at in deciles]
    return Judged(
        losses=np.bincount(user, loss) / rows,
        rows=rows.astype(np.float64),
        aucs=aucs,
        auc_rows=auc_rows.astype(np.float64),
        entropy=-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)),
        calibration=(float(p.mean()) / rate, float(max(ratios, key=lambda r: abs(r - 1)))),
    )


def regress(visits: VisitFeatures, data: HardSet) -> Floats | None:
    """[N] calibrated probabilities of logistic regression on the ranker's own features."""
    _, x = visits.matrix()
    y = visits.labels[:, ENGAGE]
    fitted = LogisticRegression.fit(x[data.train], y[data.train])
    return _calibrated(fitted.logits(x), y, data)


def grow_trees(visits: VisitFeatures, data: HardSet) -> Floats | None:
    """[N] calibrated probabilities of LightGBM on the same; None where it is not installed."""
    names, x = visits.matrix()
    y = visits.labels[:, ENGAGE]
    logits_of = trees.grow(names, x, y, data.train, data.validate)
    return None if logits_of is None else _calibrated(logits_of(x), y, data)


def _calibrated(logits: Floats, labels: Floats, data: HardSet) -> Floats:
    platt = Platt.fit(logits[data.validate, None], labels[data.validate, None])
    return sigmoid(logits * platt.slope[0] + platt.offset[0])


def _trained(run: Run, data: HardSet, seed: int) -> Path:
    """The checkpoint of a seed, trained if it is not there."""
    folder = run.checkpoints / f"ranker-{PRESET}-hard-{seed}"
    if not usable(Kind.RANKER, folder, TEST_WEEK):
        tables = data.learnable()
        config, training = configure(PRESET, SCHEMA, SCHEMA.carried(tables.events.column_names))
        with training_bar(run.console, f"ranker {seed}") as progress:
            train_ranker(tables, SCHEMA, (config, replace(training, seed=seed)), folder, progress)
    run.rows.add("train_s/ranker", read_manifest(folder)["metrics"]["train_s"], "s")
    return folder


def _report(run: Run, system: str, judged: list[Judged], variant: str = "") -> None:
    """The rows of one system: means over seeds, with the bootstrap error over users."""
    first = judged[0]
    ne = estimate(np.stack([one.entropies for one in judged]), first.rows)
    auc = estimate(np.stack([one.aucs for one in judged]), first.auc_rows)
    _row(run, f"ne/hard{variant}", system, ne)
    _row(run, f"gauc/hard{variant}", system, auc)
    overall, worst = np.array([one.calibration for one in judged]).T
    farthest = worst[np.argmax(np.abs(worst - 1))]
    for axis, value in (("hard", overall.mean()), ("hard/worst_decile", farthest)):
        run.rows.add(f"calibration/{axis}{variant}", value, "ratio", system=system, n=len(judged))


def _row(run: Run, axis: str, system: str, found: Estimate) -> None:
    unit = "nats/nats" if axis.startswith("ne") else "share"
    run.rows.add_mean(axis, found, unit, system=system)

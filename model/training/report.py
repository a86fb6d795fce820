"""Report: what a training run was like, for people to look at.

Owns the numbers (`report.json`) and the pictures (`loss.png`, `calibration.png`, `gates.png`) that
lie in a checkpoint's folder. Promises the same files from the same run, and no picture of what
there is not. Nothing reads them back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .loop import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More points than a picture has pixels for say nothing more.
MAX_POINTS = 400
# Deciles of the prediction.
BINS = 10
GATE_BINS = 20
_DPI = 100

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Reliability:
    """Predictions against what happened, by deciles of the prediction.

    Attributes:
        predicted: mean prediction of each bin, rising.
        happened: rate of each bin.
        rows: how many examples each has.
    """

    predicted: list[float]
    happened: list[float]
    rows: list[int]

    @classmethod
    def of(cls, probabilities: Floats, labels: Floats) -> Reliability:
        """Bin [N] probabilities and [N] labels, 0 or 1."""
        order = np.argsort(probabilities, kind="stable")
        parts = [part for part in np.array_split(order, BINS) if len(part)]
        return cls(
            [float(probabilities[part].mean()) for part in parts],
            [float(labels[part].mean()) for part in parts],
            [len(part) for part in parts],
        )


@dataclass(frozen=True)
class Gates:
    """How one gated branch stood over all candidates and dimensions.

    Attributes:
        mean, std: a mean of one half with no deviation says that the gate is idle.
        shares: share of the gates in each of the equal parts of 0 to 1.
    """

    mean: float
    std: float
    shares: list[float]

    @classmethod
    def of(cls, values: Floats) -> Gates:
        """Summarise any number of gates in [0, 1]."""
        counts, _ = np.histogram(values, GATE_BINS, (0.0, 1.0))
        shares = counts / max(values.size, 1)
        return cls(float(values.mean()), float(values.std()), shares.tolist())


@dataclass(frozen=True)
class Report:
    """One run.

    Attributes:
        title: which model, of which preset.
        curves: of each loop, by its name.
        metrics: what training measured.
        validation: what the curves' validation losses are.
        calibration: by task, on held-out examples and after calibration.
        gates: by branch.
        facts: more to keep in the JSON: settings, data.
    """

    title: str
    curves: Mapping[str, Curve]
    metrics: Mapping[str, float]
    validation: str = "validation loss"
    calibration: Mapping[str, Reliability] = field(default_factory=dict)
    gates: Mapping[str, Gates] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The files by their names."""
        files = {"report.json": self._json()}
        if any(curve.losses for curve in self.curves.values()):
            files["loss.png"] = self._draw(self._losses, 2)
        if self.calibration:
            files["calibration.png"] = self._draw(self._reliability, len(self.calibration))
        if self.gates:
            files["gates.png"] = self._draw(self._gate_shares, len(self.gates))
        return files

    def _json(self) -> bytes:
        values = {
            "title": self.title,
            "metrics": dict(self.metrics),
            "curves": {
                name: vars(curve) | {"steps": len(curve.losses)}
                for name, curve in self.curves.items()
            },
            "calibration": {task: vars(bins) for task, bins in self.calibration.items()},
            "gates": {branch: vars(gates) for branch, gates in self.gates.items()},
            **self.facts,
        }
        return (json.dumps(values, indent=1) + "\n").encode()

    def _draw(self, paint: Any, panels: int) -> bytes:
        # Imported here: a worker that serves never draws. No pyplot: its figures are the process's.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.5 * panels, 4.0), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        figure.suptitle(self.title)
        paint(list(axes))
        for ax in axes:
            ax.grid(alpha=0.3)
            ax.spines[["top", "right"]].set_visible(False)
        png = io.BytesIO()
        figure.savefig(png, dpi=_DPI, metadata={"Software": None})
        return png.getvalue()

    def _losses(self, axes: Sequence[Axes]) -> None:
        loss, norm = axes
        judged = None
        for name, curve in self.curves.items():
            if not curve.losses:
                continue
            (line,) = loss.plot(*_thinned(curve.losses), label=name)
            norm.plot(*_thinned(curve.norms), label=name, color=line.get_color())
            if curve.validations:
                judged = judged or loss.twinx()
                judged.plot(*zip(*curve.validations, strict=True), "o:", color=line.get_color())
                loss.axvline(curve.kept, color=line.get_color(), alpha=0.4, linestyle="--")
        loss.set(xlabel="step", ylabel="training loss", title="Loss")
        norm.set(xlabel="step", ylabel="norm before clipping", title="Gradient", yscale="log")
        if judged is not None:
            judged.set_ylabel(f"{self.validation} (points)")
            judged.spines["top"].set_visible(False)
            loss.set_title("Loss; dashed: the weights that were kept")
        loss.legend()

    def _reliability(self, axes: Sequence[Axes]) -> None:
        for ax, (task, bins) in zip(axes, self.calibration.items(), strict=True):
            top = max([*bins.predicted, *bins.happened, 1e-9]) * 1.05
            ax.plot([0, top], [0, top], color="grey", linestyle="--", label="calibrated")
            ax.plot(bins.predicted, bins.happened, "o-", label="deciles of the held-out rows")
            ax.set(xlabel="mean prediction", ylabel="rate", title=task, xlim=(0, top))
            ax.set_ylim(0, top)
            ax.legend()

    def _gate_shares(self, axes: Sequence[Axes]) -> None:
        middles = (np.arange(GATE_BINS) + 0.5) / GATE_BINS
        for ax, (branch, gates) in zip(axes, self.gates.items(), strict=True):
            ax.bar(middles, gates.shares, width=0.9 / GATE_BINS)
            ax.axvline(gates.mean, color="black", linestyle="--", label=f"mean {gates.mean:.2f}")
            ax.set(xlabel="gate (0 shut, 1 open)", ylabel="share of the gates", xlim=(0, 1))
            ax.set_title(f"{branch}, deviation {gates.std:.2f}")
            ax.legend()


def _thinned(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Steps and means of equal stretches of them."""
    parts = np.array_split(np.arange(len(values)), min(len(values), MAX_POINTS))
    series = np.asarray(values)
    means = [float(series[part].mean()) for part in parts]
    return [float(part[-1] + 1) for part in parts], means

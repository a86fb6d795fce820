"""Drawing: the picture of a study, readable at a glance.

Owns how figures look. Promises the same bytes from the same figures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from .study import Figure
from .summary import INTERVAL, Mean, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

_DPI = 110
_OURS, _OTHER, _WORSE, _GREY = "#1b6ca8", "#e08a1e", "#b5363b", "#8a8f98"
# Differences of parts that are worth little are drawn to scale: up to so many times the median of
# all differences; a longer one ends in an arrow, with its number beside it.
_SCALE = 6.0


def draw(summary: Summary, title: str) -> bytes:
    """A PNG."""
    # Imported here: other verbs never draw. No pyplot: its figures are the process's.
    from matplotlib.figure import Figure as Canvas

    systems = summary.study.systems
    history = summary.study.name == "history"
    height = 3.8 if history else 1.9 + 0.34 * len(systems)
    canvas = Canvas(figsize=(12.0, height), layout="constrained")
    canvas.suptitle(f"{title}; mean of {summary.seeds} seeds, intervals of 95%", fontsize=12)
    figures = summary.study.figures
    if history:
        axes = canvas.subplots(1, len(figures) + 1, squeeze=False)[0]
        for ax, figure in zip(axes, figures, strict=False):
            _by_length(ax, summary, figure)
        _cost(axes[-1], summary)
        axes[0].legend(frameon=False)
    else:
        axes = canvas.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for ax, figure in zip(axes, figures, strict=True):
            _differences(ax, summary, figure)
        axes[0].set_yticks(range(len(systems)), [name.replace("_", " ") for name in systems])
        axes[0].invert_yaxis()
    for ax in axes:
        ax.grid(alpha=0.25, axis="both" if history else "x")
        ax.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    canvas.savefig(png, dpi=_DPI, metadata={"Software": None})
    return png.getvalue()


def _differences(ax: Axes, summary: Summary, figure: Figure) -> None:
    """Each system less the reference; right of zero is better."""
    sign = -1.0 if figure.falls else 1.0
    measured = summary.figures[figure.axis]
    end = _end([abs(one.less.value) for one in measured.values() if one.less is not None])
    for row, one in enumerate(measured.values()):
        label = f"{one.mean.value:.4f}"
        if one.less is None:
            ax.plot(0.0, row, "D", color=_GREY)
        else:
            at, reach = sign * one.less.value, INTERVAL * one.less.spread
            color = _WORSE if at + reach < 0 else _OURS if at - reach > 0 else _GREY
            if abs(at) > end:
                tip = end if at > 0 else -end
                ax.annotate(
                    f"{at:+.3f}",
                    (tip, row),
                    (tip * 0.62, row),
                    color=color,
                    va="center",
                    ha="center",
                    arrowprops={"arrowstyle": "->", "color": color},
                )
            else:
                ax.errorbar(at, row, xerr=reach, fmt="o", color=color, capsize=3)
        ax.text(1.01, row, label, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.axvline(0.0, color=_GREY, linewidth=1)
    ax.set_xlim(-1.12 * end, 1.12 * end)
    ax.set_title(f"{figure.title} (at the right), {'less' if figure.falls else 'more'} is better")
    ax.set_xlabel(f"better than {summary.study.reference.replace('_', ' ')} by")


def _end(differences: list[float]) -> float:
    """Where the axis ends: beyond all differences but those that would hide the others."""
    shown = [value for value in differences if value <= _SCALE * float(np.median(differences))]
    return 1.3 * max(shown)


def _by_length(ax: Axes, summary: Summary, figure: Figure) -> None:
    """A line over history lengths, and one with stochastic length."""
    for name, points in _lines(summary.figures[figure.axis]).items():
        lengths = sorted(points)
        means = [points[length].mean for length in lengths]
        _line(ax, name, lengths, means)
    ax.set(xlabel="newest events that are known", title=f"{figure.title}")


def _cost(ax: Axes, summary: Summary) -> None:
    for name, points in _lines(summary.train_s).items():
        lengths = sorted(points)
        _line(ax, name, lengths, [points[length] for length in lengths])
    ax.set(xlabel="newest events that are known", title="CPU seconds of a training")
    ax.set_ylim(bottom=0)


def _line(ax: Axes, name: str, lengths: list[int], means: list[Mean]) -> None:
    ax.errorbar(
        lengths,
        [mean.value for mean in means],
        yerr=[INTERVAL * mean.spread for mean in means],
        fmt="o-" if name == "whole" else "s--",
        color=_OURS if name == "whole" else _OTHER,
        capsize=3,
        label=f"histories {name} in training",
    )
    ax.set_xscale("log")
    ax.set_xticks(lengths, [f"{length:,}" for length in lengths])
    ax.minorticks_off()


def _lines(by_system: Mapping[str, T]) -> dict[str, dict[int, T]]:
    """Systems named `gesr_LENGTH` and `gesr_LENGTH_stochastic`, by kind and length."""
    lines: dict[str, dict[int, T]] = {}
    for system, one in by_system.items():
        _, length, *rest = system.split("_")
        lines.setdefault("sampled" if rest else "whole", {})[int(length)] = one
    return lines

"""Drawing: the picture of a study, readable at a glance.

Owns how figures look. Promises the same bytes from the same figures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ...rows import Mean
from .study import Figure
from .summary import INTERVAL, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

_DPI = 110
_OURS, _OTHER, _WORSE, _GREY = "#1b6ca8", "#e08a1e", "#b5363b", "#8a8f98"
# Differences up to so many times their median are drawn to scale; one beyond becomes an arrow with
# its number, or what other parts are worth would not be seen.
_SCALE = 6.0


def draw(summary: Summary, title: str) -> bytes:
    """A PNG."""
    # Imported here: other verbs never draw. No pyplot: its figures are the process's.
    from matplotlib.figure import Figure as Canvas

    systems = summary.study.systems
    history = summary.study.name == "history"
    height = 3.8 if history else 1.9 + 0.34 * len(systems)
    canvas = Canvas(figsize=(12.0, height), layout="constrained")
    canvas.suptitle(
        f"{title}; mean of {summary.seeds} seeds, intervals of {INTERVAL:g} standard errors",
        fontsize=12,
    )
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
        axes[0].set_yticks(range(len(systems)), [_words(name) for name in systems])
        axes[0].invert_yaxis()
    for ax in axes:
        ax.grid(alpha=0.25, axis="both" if history else "x")
        ax.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    canvas.savefig(png, dpi=_DPI, metadata={"Software": None})
    return png.getvalue()


def _differences(ax: Axes, summary: Summary, figure: Figure) -> None:
    """How much better than the reference each system is, and its figure at the right."""
    sign = -1.0 if figure.falls else 1.0
    measured = list(summary.figures[figure.axis].values())
    better = [Mean(0.0, 0.0, 0) if one.less is None else one.less for one in measured]
    better = [Mean(sign * less.value, less.spread, less.n) for less in better]
    low, high = _limits(better)
    for row, (one, less) in enumerate(zip(measured, better, strict=True)):
        reach = INTERVAL * less.spread
        color = _WORSE if less.value + reach < 0 else _OURS if less.value - reach > 0 else _GREY
        ax.text(1.02, row, f"{one.mean.value:.4f}", transform=ax.get_yaxis_transform(), va="center")
        if low <= less.value <= high:
            ax.errorbar(less.value, row, xerr=reach, fmt="o", color=color, capsize=3)
        else:
            tip, from_tip = (low, 1) if less.value < low else (high, -1)
            ax.annotate(
                f"{less.value:+.3f}",
                (tip, row),
                (tip + from_tip * 0.14 * (high - low), row),
                color=color,
                va="center",
                ha="left" if from_tip > 0 else "right",
                arrowprops={"arrowstyle": "->", "color": color},
            )
    ax.axvline(0.0, color=_GREY, linewidth=1)
    ax.set_xlim(low, high)
    ax.set_ylim(-0.6, len(measured) - 0.4)
    ax.set_title(f"{figure.title}, {'lower' if figure.falls else 'higher'} is better")
    ax.set_xlabel(f"better than {_words(summary.study.reference)} by; its value at the right")


def _limits(better: list[Mean]) -> tuple[float, float]:
    """Ends of an axis with zero and all intervals, but for those that would hide the others."""
    typical = float(np.median([abs(one.value) for one in better if one.n]))
    shown = [one for one in better if abs(one.value) <= _SCALE * typical]
    low = min(one.value - INTERVAL * one.spread for one in shown)
    high = max(one.value + INTERVAL * one.spread for one in shown)
    margin = 0.08 * (high - low)
    # An arrow on a side with nothing else needs room.
    beyond = [one.value for one in better if abs(one.value) > _SCALE * typical]
    room = 0.35 * (high - low)
    low = min(low - margin, -room if min(beyond, default=0.0) < 0 else 0.0)
    high = max(high + margin, room if max(beyond, default=0.0) > 0 else 0.0)
    return low, high


def _by_length(ax: Axes, summary: Summary, figure: Figure) -> None:
    """A line over history lengths, and one with stochastic length.

    Intervals are those of the difference from the reference: what all lengths find hard is none.
    """
    for name, points in _lines(summary.figures[figure.axis]).items():
        means = {
            length: Mean(one.mean.value, 0.0 if one.less is None else one.less.spread, one.mean.n)
            for length, one in points.items()
        }
        _line(ax, name, means)
    ax.set_title(f"{figure.title}, {'lower' if figure.falls else 'higher'} is better")


def _cost(ax: Axes, summary: Summary) -> None:
    for name, points in _lines(summary.train_s).items():
        _line(ax, name, points)
    ax.set_title("CPU seconds of a training")
    ax.set_ylim(bottom=0)


def _line(ax: Axes, name: str, means: Mapping[int, Mean]) -> None:
    lengths = sorted(means)
    ax.errorbar(
        lengths,
        [means[length].value for length in lengths],
        yerr=[INTERVAL * means[length].spread for length in lengths],
        fmt="o-" if name == "whole" else "s--",
        color=_OURS if name == "whole" else _OTHER,
        capsize=3,
        label=f"histories {name} in training",
    )
    ax.set_xscale("log")
    ax.set_xticks(lengths, [f"{length:,}" for length in lengths])
    ax.minorticks_off()
    ax.set_xlabel("newest events that are known")


def _words(system: str) -> str:
    return system.replace("_", " ")


def _lines(by_system: Mapping[str, T]) -> dict[str, dict[int, T]]:
    """Systems named `gesr_LENGTH` and `gesr_LENGTH_stochastic`, by kind and length."""
    lines: dict[str, dict[int, T]] = {}
    for system, one in by_system.items():
        _, length, *rest = system.split("_")
        lines.setdefault("sampled" if rest else "whole", {})[int(length)] = one
    return lines

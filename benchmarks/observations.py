"""Repeated observations of several systems, and the rows and the table that come of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from daemon.rows import Rows

OWN = "headwater"

# What the first part of an axis ends in says its unit.
UNITS = {"_ms": "ms", "_s": "s", "_ratio": "ratio", "_speedup": "ratio"}


class Clocked(Protocol):
    """Whose work is measured, by a clock in seconds."""

    name: str
    clock: Callable[[], float]


class Observations:
    """Observations by axis and system, in the order of their first."""

    def __init__(self) -> None:
        self._observed: dict[tuple[str, str], list[float]] = {}

    def add(self, axis: str, system: str, value: float) -> None:
        """Take an observation down."""
        self._observed.setdefault((axis, system), []).append(value)

    def clocked(self, axis: str, system: Clocked, work: Callable[[], Any]) -> Any:
        """Let a system do some work, and take down how long it took, in the axis's unit."""
        started = system.clock()
        result = work()
        taken = system.clock() - started
        self.add(axis, system.name, taken * 1e3 if unit_of(axis) == "ms" else taken)
        return result

    def rows(self) -> Rows:
        """Medians with their standard errors, of each system of each axis."""
        rows = Rows()
        for (axis, system), values in self._observed.items():
            rows.add(
                axis,
                float(np.median(values)),
                unit_of(axis),
                system=system,
                spread=_median_error(values),
                n=len(values),
            )
        return rows


def unit_of(axis: str) -> str:
    """The unit of an axis, by its name."""
    measured = axis.split("/")[0]
    return next((unit for ending, unit in UNITS.items() if measured.endswith(ending)), "bits")


def show(rows: Rows) -> None:
    """Print the rows, first of all how many times headwater's value each is."""
    own = {row.axis: row.value for row in rows.rows if row.system == OWN}
    print(f"{'x headwater':>11}  {'axis':<34} {'system':<16} {'median':>10}")
    for row in rows.rows:
        ratio = f"{row.value / own[row.axis]:.2f}" if row.axis in own else ""
        spread = "" if row.spread is None else f" +- {row.spread:.3f}"
        print(
            f"{ratio:>11}  {row.axis:<34} {row.system:<16} {row.value:>10.3f}"
            f"{spread} {row.unit}, n = {row.n}"
        )


def _median_error(values: list[float]) -> float | None:
    """The standard error of a median, from the absolute deviations from it."""
    if len(values) < 2:
        return None
    deviation = 1.4826 * float(np.median(np.abs(np.array(values) - np.median(values))))
    return 1.2533 * deviation / float(np.sqrt(len(values)))

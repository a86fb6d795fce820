"""The figures of a run: a table for people, rows for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table


@dataclass(frozen=True)
class Mean:
    """A mean, and how sure it is.

    Attributes:
        value: the mean.
        spread: its standard error.
        n: of how many users or runs.
    """

    value: float
    spread: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.floating]) -> Mean:
        """The mean of some values; the standard error of one is 0."""
        values = np.asarray(values)
        spread = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return cls(float(values.mean()), float(spread), len(values))


@dataclass(frozen=True)
class Row:
    """One figure: what (`axis`), of what (`system`), how much, and how sure.

    `spread` is the standard error, or None where one number was measured once.
    """

    axis: str
    system: str
    value: float
    unit: str
    spread: float | None = None
    n: int = 1


@dataclass
class Rows:
    """The figures so far, in the order in which they were measured."""

    title: str = "Headwater on The Complete Journey"
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        axis: str,
        value: float,
        unit: str,
        *,
        system: str = "headwater",
        spread: float | None = None,
        n: int = 1,
    ) -> None:
        """Add one figure."""
        self.rows.append(Row(axis, system, float(value), unit, spread, n))

    def add_mean(self, axis: str, mean: Mean, unit: str, *, system: str = "headwater") -> None:
        """Add a mean with its standard error."""
        self.add(axis, mean.value, unit, system=system, spread=mean.spread, n=mean.n)

    def write(self, path: Path) -> None:
        """Write them as a JSON list."""
        path.write_text(json.dumps([asdict(row) for row in self.rows], indent=2) + "\n")

    def table(self) -> Table:
        """All of them as a table."""
        table = Table(title=self.title, title_justify="left")
        for heading in ("figure", "system"):
            table.add_column(heading, no_wrap=True)
        for heading in ("value", "±", "n"):
            table.add_column(heading, justify="right")
        table.add_column("unit")
        for row in self.rows:
            spread = "" if row.spread is None else _number(row.spread)
            table.add_row(row.axis, row.system, _number(row.value), spread, f"{row.n:,}", row.unit)
        return table


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"

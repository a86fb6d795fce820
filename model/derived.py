"""Derived fields: values that are made of other values, or of the time.

Owns the making: the first steps of a category path, the band of a number, the hour and the weekday
of a moment. Promises one function for single records and for tables, and None, which is a missing
value, where there is nothing to make one of.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

# Every time zone's offset is a multiple of it.
QUARTER_MS = 15 * 60_000

Part = Literal["hour", "weekday"]


class DerivationInvalid(ValueError):
    """A derivation has an unknown key or an impossible value."""


@dataclass(frozen=True)
class PathSteps:
    """The first steps of a path: 2 of `food/dairy/milk` are `food/dairy`; None if it is shorter.

    Attributes:
        source: the field that holds the path.
        path: how many steps.
        separator: between them.
    """

    source: str
    path: int
    separator: str = "/"

    def __post_init__(self) -> None:
        if self.path < 1 or not self.separator:
            raise DerivationInvalid(f"path {self.path} and separator {self.separator!r}: too short")

    def value(self, text: str) -> str | None:
        """Of one path."""
        steps = text.split(self.separator)
        return self.separator.join(steps[: self.path]) if len(steps) >= self.path else None


@dataclass(frozen=True)
class Band:
    """The band of a number: how many of the edges it has reached; None if it is no finite number.

    Attributes:
        source: the field that holds the number.
        bands: the edges, ascending; a number on an edge is above it.
    """

    source: str
    bands: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.bands or list(self.bands) != sorted({*self.bands}):
            raise DerivationInvalid(f"bands {list(self.bands)} are not ascending, or none")

    def value(self, text: str) -> str | None:
        """Of one number."""
        try:
            number = float(text)
        except ValueError:
            return None
        return str(bisect_right(self.bands, number)) if math.isfinite(number) else None


@dataclass(frozen=True)
class ClockPart:
    """The hour (`0` to `23`) or the weekday (`0` is Monday) of a moment, in a time zone.

    Attributes:
        clock: which of the two.
        zone: a name of the time zone data base.
    """

    clock: Part
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.clock not in get_args(Part):
            raise DerivationInvalid(f"clock {self.clock!r}; allowed: {', '.join(get_args(Part))}")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise DerivationInvalid(f"zone {self.zone!r}: {error}") from error

    def values(self, time_ms: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Of [N] int64 epoch ms: [N] int64 codes, and the values that they stand for."""
        zone = ZoneInfo(self.zone)
        quarters, codes = np.unique(time_ms // QUARTER_MS, return_inverse=True)
        moments = (
            datetime.fromtimestamp(quarter * QUARTER_MS / 1000, zone)
            for quarter in quarters.tolist()
        )
        hourly = self.clock == "hour"
        return codes, [str(at.hour if hourly else at.weekday()) for at in moments]


Derivation = PathSteps | Band | ClockPart

_KINDS: dict[str, type[PathSteps] | type[Band] | type[ClockPart]] = {
    "path": PathSteps,
    "bands": Band,
    "clock": ClockPart,
}


def parse(values: Mapping[str, Any]) -> Derivation:
    """A derivation from its table in a schema; the key `path`, `bands` or `clock` says which.

    Raises:
        DerivationInvalid: it has none or several of these, another key, or a wrong value.
    """
    named = [kind for kind in _KINDS if kind in values]
    if len(named) != 1:
        raise DerivationInvalid(f"{dict(values)} needs one of {', '.join(_KINDS)}")
    arguments = dict(values)
    if "from" in arguments:
        arguments["source"] = arguments.pop("from")
    if isinstance(arguments.get("bands"), list):
        arguments["bands"] = tuple(arguments["bands"])
    try:
        return _KINDS[named[0]](**arguments)
    except TypeError as error:
        raise DerivationInvalid(f"{dict(values)}: {error}") from error


def render(derivation: Derivation) -> dict[str, Any]:
    """The inverse of `parse`, as JSON and TOML can hold it."""
    values = dict(vars(derivation))
    if "source" in values:
        values = {"from": values.pop("source"), **values}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }

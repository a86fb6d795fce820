"""Targeting: the rules an ad puts to a request, each distinct set kept once.

An `allow` list wants at least one of its values among the audience's, so an
unknown field fails it. A `deny` list wants none of them, so an unknown field
passes it. All rules of a set must hold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Int32, UInt8


@dataclass(frozen=True)
class Rule:
    """Allowed and denied values of one field; `allow` None allows all."""

    field: str
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()

    def admits(self, values: frozenset[str]) -> bool:
        """Whether an audience with these values of the field passes."""
        if self.allow is not None and self.allow.isdisjoint(values):
            return False
        return self.deny.isdisjoint(values)


Targeting = tuple[Rule, ...]
Audience = Mapping[str, frozenset[str]]

EVERYONE: Targeting = ()
_NOTHING: frozenset[str] = frozenset()


def admits(targeting: Targeting, audience: Audience) -> bool:
    """Whether an audience passes every rule of a set."""
    return all(rule.admits(audience.get(rule.field, _NOTHING)) for rule in targeting)


class TargetingTable:
    """Distinct rule sets, numbered in order of arrival; number 0 is no rule.

    One thread interns; any thread may evaluate.
    """

    def __init__(self, sets: Iterable[Targeting] = ()) -> None:
        self._sets: list[Targeting] = [EVERYONE]
        self._numbers: dict[Targeting, int] = {EVERYONE: 0}
        for targeting in sets:
            self._number(targeting)

    def __len__(self) -> int:
        return len(self._sets)

    def _number(self, targeting: Targeting) -> int:
        number = self._numbers.get(targeting)
        if number is None:
            number = len(self._sets)
            self._sets.append(targeting)
            self._numbers[targeting] = number
        return number

    def intern(self, targetings: Sequence[Targeting | None]) -> Int32:
        """[B] int32, the number of each set; None counts as no rule."""
        return np.fromiter(
            (self._number(targeting) if targeting else 0 for targeting in targetings),
            np.int32,
            len(targetings),
        )

    def evaluate(self, audience: Audience, count: int) -> UInt8:
        """[count] uint8, 1 where the audience passes the set of that number."""
        return np.fromiter(
            (admits(targeting, audience) for targeting in self._sets[:count]), np.uint8, count
        )

    def set(self, number: int) -> Targeting:
        """The set of a number."""
        return self._sets[number]

    def sets(self) -> list[Targeting]:
        """All sets by number, a copy."""
        return self._sets.copy()

    def growth_bytes(self, targetings: Sequence[Targeting | None]) -> int:
        """About how many bytes more the table takes with these sets."""
        new = {targeting for targeting in targetings if targeting} - self._numbers.keys()
        return sum(map(_bytes, new))

    def memory_bytes(self) -> int:
        """About what the table takes."""
        return sum(map(_bytes, self._sets))


def _bytes(targeting: Targeting) -> int:
    return 200 + 300 * len(targeting)

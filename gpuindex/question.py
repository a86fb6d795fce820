"""Questions: a query held against one view, in the numbers that kernels take.

What the view's dictionary, rule sets and slots have to say about a query is
looked up once, on the host; a question can then be put to any device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arrays import Int32, Int64, UInt8
from .query import IntegerQuery

# A positive sum is wanted of a question about matches alone.
LEAST_MATCH = 1
LOWEST_SCORE = int(np.iinfo(np.int32).min)


@dataclass(frozen=True, eq=False)
class Restrictions:
    """The slots that a question is about, whatever their state.

    Attributes:
        within: [W] int64 slots, only these; None for all.
        excluded: [E] int64 slots, not these.
        rules: for each filter, the features of which one is needed, None for no such
            need, and those of which none may be there; [n] int32 each, ascending.
    """

    within: Int64 | None
    excluded: Int64
    rules: tuple[tuple[Int32 | None, Int32], ...]

    def mask(self, slots: int, arrays: Any, mark: Callable[[Any, int, Any], None]) -> Any:
        """[slots] uint8, 0 where a slot is out of question; [0] if none is.

        Args:
            slots: in the view.
            arrays: NumPy, or CuPy if this holds arrays of a device.
            mark: mark(features, value, marks), the kernel on the view's lists.
        """
        if self is UNRESTRICTED:
            return arrays.zeros(0, np.uint8)
        mask = arrays.full(slots, 1 if self.within is None else 0, np.uint8)
        if self.within is not None:
            mask[self.within] = 1
        if len(self.excluded):
            mask[self.excluded] = 0
        for allow, deny in self.rules:
            if allow is not None:
                allowed = arrays.zeros(slots, np.uint8)
                mark(allow, 1, allowed)
                mask &= allowed
            mark(deny, 0, mask)
        return mask

    def moved(self, put: Callable[[Any], Any]) -> "Restrictions":
        """The same with every array put elsewhere."""
        if self is UNRESTRICTED:
            return self
        return Restrictions(
            within=None if self.within is None else put(self.within),
            excluded=put(self.excluded),
            rules=tuple(
                (None if allow is None else put(allow), put(deny)) for allow, deny in self.rules
            ),
        )


UNRESTRICTED = Restrictions(None, np.zeros(0, np.int64), ())


# Not frozen: that would cost each query half a microsecond more.
@dataclass(eq=False, slots=True)
class Question:
    """What is looked for; never changed.

    Attributes:
        integers: the query's weights and vector.
        full: whether embeddings and biases count, and not matches alone.
        k: how many ads at most.
        now_ms, seed: of the request; the seed an int64.
        allowed: [rule sets] uint8, 1 where the audience passes.
        restrictions: see there.
    """

    integers: IntegerQuery
    full: bool
    k: int
    now_ms: int
    seed: int
    allowed: UInt8
    restrictions: Restrictions

    @property
    def least(self) -> int:
        """The lowest score that is wanted."""
        return LOWEST_SCORE if self.full else LEAST_MATCH

    def moved(self, put: Callable[[Any], Any]) -> "Question":
        """The same with every array put elsewhere."""
        integers = self.integers
        return replace(
            self,
            integers=replace(
                integers,
                features=put(integers.features),
                weights=put(integers.weights),
                vector=put(integers.vector),
            ),
            allowed=put(self.allowed),
            restrictions=self.restrictions.moved(put),
        )

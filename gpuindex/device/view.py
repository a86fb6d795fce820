"""Searches of one view on the device.

A view's arrays are held by it, so that they live as long as it does, and are let
go on the device's queue behind the searches that read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Int64
from ..division import Found
from ..kernels.cuda.dense import dense
from ..kernels.cuda.device import current
from ..kernels.cuda.mark import mark
from ..kernels.cuda.score import piece_bytes, score
from ..kernels.cuda.topk import begin as begin_topk
from ..question import Question

# Of a search, by slot: score, gathered score and slot, two marks, and at most the answer's score,
# ad id and slot, in order and before.
SLOT_BYTES = 4 + 8 + 2 + 2 * (4 + 8 + 4)


@dataclass(frozen=True, eq=False)
class DeviceShard:
    """A sealed shard on the device.

    Attributes:
        row: [FIELDS] int64, its row of the shard table, for first slot 0.
        arrays: what the row's addresses point at.
    """

    row: Int64
    arrays: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class DeviceTail:
    """The tail as a view counts it; attributes as `TailView` and its columns."""

    first_slot: int
    ads: int
    bounds: Any
    features: Any
    weights: Any
    ad_ids: Any
    targeting: Any
    embeddings: Any


@dataclass(frozen=True, eq=False)
class DeviceSlots:
    """The slots' state as a view sees it; attributes as `SlotsView` and its pool."""

    count: int
    dead: Any
    pages: Any
    states: Any
    biases: Any


@dataclass
class Searches:
    """What searches take of the device's memory: the most bytes at a time."""

    most_bytes: int = 0

    def expect(self, query_features: int, slots: int, shards: int, features: int) -> None:
        """Count a search with so many features of its own and of the dictionary."""
        own = SLOT_BYTES * slots + 4 * features + piece_bytes(query_features, slots, shards)
        self.most_bytes = max(self.most_bytes, own)


@dataclass(frozen=True, eq=False)
class DeviceView:
    """What the device holds of a view; attributes as there.

    Attributes:
        searches: told of each search.
    """

    epoch: int
    shards: tuple[DeviceShard, ...]
    table: Any
    tail: DeviceTail
    slots: DeviceSlots
    feature_count: int
    searches: Searches

    def best(self, questions: Sequence[Question]) -> list[Found]:
        """The answer to each question; the host waits once for all of them."""
        device = current()
        ends = np.cumsum([question.k for question in questions])
        with device.in_order():
            arrays = device.arrays
            counts = arrays.zeros(len(questions), np.int32)
            best = [arrays.empty(int(ends[-1]), dtype) for dtype in (np.int32, np.int64, np.int32)]
            for number, (question, end) in enumerate(zip(questions, ends.tolist(), strict=True)):
                own = slice(end - question.k, end)
                self._begin(
                    question.moved(device.put),
                    counts[number : number + 1],
                    (best[0][own], best[1][own], best[2][own]),
                )
            found = device.get(counts)
            scores, ads, slots = map(device.get, best)
        longest = max(len(question.integers.features) for question in questions)
        self.searches.expect(longest, self.slots.count, len(self.shards), self.feature_count)
        places = [
            slice(end - question.k, end - question.k + count)
            for question, end, count in zip(questions, ends.tolist(), found.tolist(), strict=True)
        ]
        return [Found(scores[each], ads[each], slots[each]) for each in places]

    def _begin(self, question: Question, count: Any, best: tuple[Any, Any, Any]) -> None:
        """Ask for everything that a question takes, and wait for nothing.

        Args:
            question: its arrays on the device.
            count: [1] int32, zero; how many ads are found.
            best: [k] each: scores int32, ad ids int64, slots int32.
        """
        arrays = current().arrays
        tail, slots, integers = self.tail, self.slots, question.integers
        lists = (self.table, tail.first_slot, tail.ads, tail.bounds, tail.features)
        scores = arrays.empty(slots.count, np.int32)
        # The way of the touched slots is the CPU's alone.
        unused = arrays.empty(1, np.int32)
        score(
            *lists,
            tail.weights,
            integers.features,
            integers.weights,
            0,
            arrays.zeros(self.feature_count, np.int32),
            arrays.empty((max(1, len(self.shards)), max(1, len(integers.features))), np.int32),
            scores,
            unused,
            unused,
        )
        if question.full:
            dense(
                self.table,
                tail.first_slot,
                tail.ads,
                tail.embeddings,
                integers.vector,
                integers.multiplier,
                integers.bias_factor,
                slots.pages,
                slots.biases,
                scores,
            )
        mask = question.restrictions.mask(slots.count, arrays, partial(mark, *lists))
        begin_topk(
            self.table,
            tail.first_slot,
            tail.ads,
            tail.ad_ids,
            tail.targeting,
            scores,
            question.least,
            (
                slots.dead,
                self.epoch,
                slots.pages,
                slots.states,
                question.now_ms,
                question.seed,
                question.allowed,
                mask,
            ),
            count,
            best,
        )

"""What one searching thread needs besides its view, kept from query to query."""

import threading

import numpy as np

from .arrays import Int32, Int64
from .kernels.cpu.shards import BLOCK_SLOTS

# The more places beyond k, the fewer ads are tested for eligibility that do not
# stay; 128 KiB of them leave room in the L2 cache for the scores that go by.
KEY_PLACES = 16_384


class Scratch:
    """Arrays that grow to the largest query and view seen by their thread.

    Attributes:
        weight_of: [features] int32, zero between queries.
        scores: [slots] int32.
        touched: [slots] int32.
        block_sums: [BLOCK_SLOTS] int32, zero between queries.
        located: [shards, query features] int32.
        keys: [places] int64.
    """

    def __init__(self) -> None:
        self.weight_of: Int32 = np.zeros(0, np.int32)
        self.scores: Int32 = np.empty(0, np.int32)
        self.touched: Int32 = np.empty(0, np.int32)
        self.block_sums: Int32 = np.zeros(BLOCK_SLOTS, np.int32)
        self.located: Int32 = np.empty((1, 1), np.int32)
        self.keys: Int64 = np.empty(0, np.int64)

    def fit(self, features: int, slots: int, shards: int, query_features: int, k: int) -> None:
        """Be large enough.

        Args:
            features: in the dictionary.
            slots: in the view.
            shards: sealed ones in the view.
            query_features: in the query.
            k: ads wanted.
        """
        if len(self.weight_of) < features:
            self.weight_of = np.zeros(2 * features, np.int32)
        if len(self.scores) < slots:
            places = slots + slots // 4
            self.scores = np.empty(places, np.int32)
            self.touched = np.empty(places, np.int32)
        if self.located.shape[0] < shards or self.located.shape[1] < query_features:
            self.located = np.empty(
                (max(shards, self.located.shape[0]), max(query_features, self.located.shape[1])),
                np.int32,
            )
        places = k + max(3 * k, KEY_PLACES)
        if len(self.keys) != places:
            self.keys = np.empty(places, np.int64)


class _Local(threading.local):
    def __init__(self) -> None:
        self.scratch = Scratch()


_local = _Local()


def own_scratch() -> Scratch:
    """The calling thread's scratch."""
    return _local.scratch

"""The value model: bid and probabilities become the one number that orders an answer.

Owns value = bid^a x p(engage)^b x p(consume)^c, its factors, and its share that is known at
retrieval. Promises finite values for every bid and probability that can be configured or predicted.
The powers are the operator's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FACTORS = ("bid", "engage", "consume")

_LARGEST = float(np.finfo(np.float32).max)
# A bid of zero must lose to every other ad, but stay a number that int32 scores can hold.
LOWEST_BID = 1e-6


@dataclass(frozen=True)
class ValueModel:
    """Powers of the product; 0 leaves a factor out.

    Attributes:
        bid_power, engage_power, consume_power: not negative.
    """

    bid_power: float = 1.0
    engage_power: float = 1.0
    consume_power: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bid_power", "engage_power", "consume_power"):
            power = getattr(self, name)
            if not 0.0 <= power < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {power}")

    def factors(self, bids: Floats, probabilities: Floats) -> npt.NDArray[np.float64]:
        """What each candidate's value is the product of.

        Args:
            bids: [N] float32, not negative.
            probabilities: [N, 2] float32 in [0, 1]: engage, consume.

        Returns:
            [N, 3] float64 in the order of `FACTORS`; 1 where a power is 0.
        """
        powers = np.array([self.bid_power, self.engage_power, self.consume_power])
        bases = np.column_stack((bids, probabilities)).astype(np.float64)
        with np.errstate(over="ignore"):
            raised: npt.NDArray[np.float64] = np.minimum(bases**powers, _LARGEST)
        return raised

    def value(self, bids: Floats, probabilities: Floats) -> Floats:
        """Expected value of each candidate, to order by: the product of its factors.

        Args:
            bids: [N] float32, not negative.
            probabilities: [N, 2] float32 in [0, 1]: engage, consume.

        Returns:
            [N] float32.
        """
        values = np.prod(self.factors(bids, probabilities), axis=1)
        finite: Floats = np.minimum(values, _LARGEST).astype(np.float32)
        return finite

    def retrieval_bias(self, bids: Floats) -> Floats:
        """What is known of log(value) before any request: the bid's share.

        Args:
            bids: [N] float32, not negative; below 1e-6 counts as 1e-6.

        Returns:
            [N] float32.
        """
        floored = np.maximum(bids.astype(np.float64), LOWEST_BID)
        return (self.bid_power * np.log(floored)).astype(np.float32)

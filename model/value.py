"""The value model: bid and probabilities become the one number that orders an answer.

Owns value = bid^a x p(engage)^b x p(consume)^c and its share that is known at retrieval. Promises
finite values for every bid and probability that can be configured or predicted. The powers are
the operator's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

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

    def value(self, bids: Floats, probabilities: Floats) -> Floats:
        """Expected value of each candidate, to order by.

        Args:
            bids: [N] float32, not negative.
            probabilities: [N, 2] float32 in [0, 1]: engage, consume.

        Returns:
            [N] float32.
        """
        powers = np.array([self.engage_power, self.consume_power])
        chances = np.prod(probabilities.astype(np.float64) ** powers, axis=1)
        values = bids.astype(np.float64) ** self.bid_power * chances
        finite: Floats = np.minimum(values, np.finfo(np.float32).max).astype(np.float32)
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

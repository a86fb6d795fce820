"""Numbers that look random and are the same everywhere for the same input."""

from typing import Any

import numpy as np

from .compiled import inlined, int64, kernel


@inlined
def mixed(value: int) -> Any:
    """uint64 in, uint64 out, every bit depending on every bit (SplitMix64)."""
    x = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def paced(seed: int, ad_id: int) -> Any:
    """A fair draw in [0, 1) float32 for this request and ad, the same everywhere."""
    return np.float32(mixed(mixed(seed) ^ np.uint64(ad_id)) >> np.uint64(40)) * np.float32(
        1.0 / (1 << 24)
    )


@kernel(int64, int64)
def draw(seed: int, ad_id: int) -> Any:
    """`paced` for a caller that is no kernel."""
    return paced(seed, ad_id)

"""Features found by the bytes of their keys: a hash table for kernels that read text.

Open addressing and linear probing, at most half full. A digest says where to look; only equal
bytes say that a key is found.
"""

from typing import Any

import numpy as np

from .compiled import fixed, int64, kernel, uint8, uncounted, written

ABSENT = -1
EQUALS = np.uint8(ord("="))

# FNV-1a, which goes byte by byte, as reading does.
BASIS = np.uint64(0xCBF29CE484222325)
PRIME = np.uint64(0x100000001B3)


def digest(name: str) -> int:
    """What the kernels make of a string."""
    made = int(BASIS)
    for byte in name.encode():
        made = (made ^ byte) * int(PRIME) % 2**64
    return made


@uncounted
def hashed(digest: Any, byte: Any) -> Any:
    return (digest ^ np.uint64(byte)) * PRIME


@uncounted
def _place(digest: Any, table: Any) -> Any:
    """Where a digest's search begins; the low bits of FNV alone are poor."""
    return np.int64((digest ^ (digest >> np.uint64(32))) & np.uint64(len(table) - 1))


@kernel(fixed(uint8), fixed(int64), int64, int64, written(int64, 2), counted=False)
def insert(arena: Any, bounds: Any, first: int, end: int, table: Any) -> None:
    """Put features into the hash table.

    F features, A bytes of keys, P places, a power of two and at least 2 F.

    Args:
        arena: [A] uint8, the keys `field=value` one after another.
        bounds: [F + 1] int64, each key's range.
        first, end: the features to put in; one whose key is empty is left out.
        table: [P, 4] int64, at each place a feature or ABSENT, and of its key the digest, the
            place in the arena and the size: all that is looked at is in one cache line.
    """
    for feature in range(first, end):
        begin, size = bounds[feature], bounds[feature + 1] - bounds[feature]
        if size == 0:
            continue
        digest = BASIS
        for at in range(begin, begin + size):
            digest = hashed(digest, arena[at])
        place = _place(digest, table)
        while table[place, 0] != ABSENT:
            place = (place + 1) & (len(table) - 1)
        table[place, 0], table[place, 1] = feature, np.int64(digest)
        table[place, 2], table[place, 3] = begin, size


@uncounted
def equal(arena: Any, at: int, text: Any, begin: int, end: int) -> Any:
    for offset in range(end - begin):
        # Unsigned: Numba need not ask whether it counts from the end.
        if arena[np.uint64(at + offset)] != text[np.uint64(begin + offset)]:
            return False
    return True


@uncounted
def find(arena: Any, table: Any, digest: Any, text: Any, field: Any, value: Any) -> Any:
    """The feature with this field and value, ranges of `text`; ABSENT if it is not known."""
    split = field[1] - field[0]
    size = split + 1 + value[1] - value[0]
    place = _place(digest, table)
    while table[place, 0] != ABSENT:
        at = table[place, 2]
        if (
            table[place, 1] == np.int64(digest)
            and table[place, 3] == size
            and equal(arena, at, text, field[0], field[1])
            and arena[at + split] == EQUALS
            and equal(arena, at + split + 1, text, value[0], value[1])
        ):
            break
        place = (place + 1) & (len(table) - 1)
    return np.int32(table[place, 0])

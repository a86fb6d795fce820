"""Placement: the partition of a topic on which a key belongs.

Owns the rule that Java's client and aiokafka share (murmur2). Records of a user are found only
where it puts them; a producer with another rule, as librdkafka by default, puts them elsewhere.
"""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2

# Hashing in Python costs as much as the rest of sending, and keys come again: a user's with each
# event, an ad's with each update.
_murmur2 = lru_cache(maxsize=1 << 16)(murmur2)


def partition_of(key: bytes, partitions: int) -> int:
    """Where `key` belongs among so many partitions."""
    hashed: int = _murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions

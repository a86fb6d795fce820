"""Digests of a worker's index as JSON, written by the worker and read by `headwater verify`.

Owns the shape of `GET /v1/digest`. Promises that a digest, its epoch and its offsets are of one
publication. Hashes are 16 hexadecimal digits, since JSON's readers round numbers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpuindex import IndexView
from gpuindex.digest import PARTS, AdHashes, ad_hashes

Offsets: TypeAlias = Mapping[str, Mapping[int, int]]
UInt64: TypeAlias = NDArray[np.uint64]


def describe(view: IndexView, offsets: Offsets, listed: Collection[int]) -> dict[str, Any]:
    """What `GET /v1/digest` says of a view and the offsets that made it.

    Args:
        view: may be any; this takes about a microsecond an ad.
        offsets: topic -> partition -> next offset.
        listed: parts whose ads are to be listed one by one.
    """
    hashes = ad_hashes(view)
    chosen = hashes.within(listed)
    return {
        "epoch": view.epoch,
        "offsets": {topic: dict(by_partition) for topic, by_partition in offsets.items()},
        "ads": len(hashes.ad_ids),
        "states": _hex(hashes.states.sum(keepdims=True))[0],
        "embeddings": _hex(hashes.embeddings.sum(keepdims=True))[0],
        "parts": {
            "states": _hex(hashes.by_part(hashes.states)),
            "embeddings": _hex(hashes.by_part(hashes.embeddings)),
        },
        "listed": {
            "ad_ids": [str(ad_id) for ad_id in chosen.ad_ids.tolist()],
            "states": _hex(chosen.states),
            "embeddings": _hex(chosen.embeddings),
        },
    }


@dataclass(frozen=True, eq=False)
class Digest:
    """A worker's answer.

    Attributes:
        epoch, offsets: of the publication.
        ads: how many ads it has.
        states, embeddings: the digests, hexadecimal.
        part_states, part_embeddings: [PARTS] uint64.
        listed: the ads that were asked for.
    """

    epoch: int
    offsets: Offsets
    ads: int
    states: str
    embeddings: str
    part_states: UInt64
    part_embeddings: UInt64
    listed: AdHashes

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Digest:
        """The inverse of `describe`."""
        listed = body["listed"]
        return cls(
            epoch=body["epoch"],
            offsets={
                topic: {int(partition): offset for partition, offset in by_partition.items()}
                for topic, by_partition in body["offsets"].items()
            },
            ads=body["ads"],
            states=body["states"],
            embeddings=body["embeddings"],
            part_states=_numbers(body["parts"]["states"]),
            part_embeddings=_numbers(body["parts"]["embeddings"]),
            listed=AdHashes(
                np.array(listed["ad_ids"], np.int64),
                _numbers(listed["states"]),
                _numbers(listed["embeddings"]),
            ),
        )

    def differing_parts(self, own: AdHashes) -> list[int]:
        """The parts whose ads are not the same."""
        same = (self.part_states == own.by_part(own.states)) & (
            self.part_embeddings == own.by_part(own.embeddings)
        )
        parts: list[int] = np.flatnonzero(~same).tolist()
        return parts


def parse_parts(text: str) -> list[int]:
    """Numbers of parts, separated by commas.

    Raises:
        ValueError: something else.
    """
    parts = [int(part) for part in text.split(",") if part]
    if not all(0 <= part < PARTS for part in parts):
        raise ValueError(f"parts={text}: numbers from 0 to {PARTS - 1}, separated by commas")
    return parts


def _hex(hashes: UInt64) -> list[str]:
    return [f"{number:016x}" for number in hashes.tolist()]


def _numbers(digits: list[str]) -> UInt64:
    return np.array([int(each, 16) for each in digits], np.uint64)

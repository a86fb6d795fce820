"""The directory: which worker owns which partitions of the users, and its address.

Owns what the records of `workers` say and what they mean together. Promises that the last worker
to claim a partition is the one that is told, also when the one before died without a word. Reading
and writing the topic is the caller's part.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from .errors import Reason, Rejected


class Listing(Struct, frozen=True):
    """The value of a record on `workers`; its key is the worker's id, null takes it back."""

    url: str
    """Where the worker's HTTP is."""
    partitions: tuple[int, ...]
    """The partitions of all topics keyed by user that it owns."""


encode_listing: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Listing).decode


def decode_listing(value: bytes) -> Listing:
    """Read a value of `workers`.

    Raises:
        Rejected: not a listing.
    """
    try:
        return _decode(value)
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.INVALID_FIELD, str(error)) from None


class Directory:
    """What the records of `workers` say, in the order in which they were written."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}
        self._owners: dict[int, str] = {}

    def note(self, worker_id: str, listing: Listing | None) -> None:
        """Take note of the next record; None for one without a value."""
        self._owners = {
            number: owner for number, owner in self._owners.items() if owner != worker_id
        }
        self._listings.pop(worker_id, None)
        if listing is not None:
            self._listings[worker_id] = listing
            self._owners.update(dict.fromkeys(listing.partitions, worker_id))

    def url_of(self, partition: int) -> str | None:
        """Where the owner of a partition is; None if nobody has claimed it."""
        owner = self._owners.get(partition)
        return None if owner is None else self._listings[owner].url

    def workers(self) -> dict[str, Listing]:
        """Worker id -> what it says of itself."""
        return dict(self._listings)

"""The rows of the histories on disk.

Owns the RocksDB folder, the form of its keys, and what has been deleted and may still be in its
files. Promises that the folder holds rows of one topic only, and that nothing of what was deleted
is in any file after `scrub`. What the rows mean to a user's history is `histories`' part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, cast

import structlog
from rocksdict import (
    BottommostLevelCompaction,
    CompactOptions,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from .errors import StreamError

log = structlog.get_logger(__name__)

# The longest call is the rewriting of a folder's files.
CLOSE_S: Final = 10.0
CLOSE_RETRY_S: Final = 0.01

# Rows, big-endian, so that the order of the bytes is the order of the numbers:
#   e partition user, time counted back from the end of time, event id -> event
#   h partition user -> the events that were folded into one row, oldest first
#   c partition offset -> users who changed before it, since the offset of the row before
#   x partition user -> the offset before which the user is erased
#   n partition user -> records that the user ever had on `user-histories`, if more than one
#   o partition -> next offset;  k partition -> next offset of the last checkpoints
#   d first key -> end of keys that were deleted and may still be in the files
#   s -> the topic that all offsets are of
EVENT_KEY: Final = Struct(">cIQQ").pack
OF_USER: Final = Struct(">cIQ")
OF_PARTITION: Final = Struct(">cI")
NUMBER: Final = Struct(">Q")
_BY_PARTITION: Final = (b"e", b"h", b"c", b"x", b"n")
_SOURCE: Final = b"s"
END_OF_TIME: Final = 2**64 - 1


class HistoriesUnavailable(StreamError):
    """The folder cannot be opened; the message has RocksDB's reason."""


class HistoryRows:
    """The rows in one folder; `open` makes it."""

    def __init__(self, database: Rdict, *, sync: bool) -> None:
        self._database = database
        self._write_options = WriteOptions()
        self._write_options.sync = sync

    @classmethod
    def open(cls, path: Path, source: str, *, sync: bool) -> HistoryRows:
        """Open the folder, made when needed; one whose rows are of another topic is emptied.

        Raises:
            HistoriesUnavailable: another process has it open, or it is damaged.
        """
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        path.mkdir(parents=True, exist_ok=True)
        try:
            database = Rdict(str(path), options)
        except Exception as error:
            raise HistoriesUnavailable(
                f"{path}: {error}; if another worker is running there, give this one an id of its "
                "own; only if none is and the folder is damaged, delete it: it is filled from "
                "user-histories and user-events again"
            ) from error
        known = cast(bytes | None, database.get(_SOURCE))
        if known != source.encode():
            if known is not None:
                log.warning("histories_of_another_topic", path=str(path), found=known.decode())
            database.delete_range(b"\0", b"\xff")
            database.put(_SOURCE, source.encode())
        return cls(database, sync=sync)

    def close(self) -> None:
        """Close the folder; every other method fails from now on.

        A thread whose task was cancelled may still be in a call; it is waited for.
        """
        until_s = time.monotonic() + CLOSE_S
        while True:
            try:
                return self._database.close()
            except RuntimeError:
                # What rocksdict raises while another thread is in the database.
                if time.monotonic() > until_s:
                    raise
            time.sleep(CLOSE_RETRY_S)

    def write(self, batch: WriteBatch) -> None:
        """Write all of it or nothing."""
        self._database.write(batch, self._write_options)

    def events(self, number: int, user_id: int) -> list[bytes]:
        """A user's event rows on a partition, the newest first."""
        first, end = EVENT_KEY(b"e", number, user_id, 0), EVENT_KEY(b"e", number, user_id + 1, 0)
        return list(self._database.values(from_key=first, read_opt=_until(end)))

    def folded(self, number: int, user_id: int) -> bytes | None:
        """A user's folded events on a partition."""
        return cast(bytes | None, self._database.get(OF_USER.pack(b"h", number, user_id)))

    def users(self, number: int) -> Iterator[int]:
        """The users of a partition, some of them twice, without looking at every row."""
        for kind in (b"e", b"h"):
            # The iterator looks into its options, and does not keep them.
            options = _until(OF_PARTITION.pack(kind, number + 1))
            rows = self._database.iter(options)
            rows.seek(OF_PARTITION.pack(kind, number))
            while rows.valid():
                user_id = OF_USER.unpack_from(rows.key())[2]
                yield user_id
                rows.seek(OF_USER.pack(kind, number, user_id + 1))

    def by_partition(self, kind: bytes) -> dict[int, int]:
        """The rows of a kind that has a number for a partition."""
        return {OF_PARTITION.unpack(k)[1]: NUMBER.unpack(v)[0] for k, v in self._between(kind)}

    def by_user(self, kind: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(partition, user or offset, value) of the rows of a kind."""
        for key, value in self._between(kind):
            _, number, other = OF_USER.unpack(key)
            yield number, other, value

    def number(self, kind: bytes, number: int) -> int | None:
        """The number that a kind has for a partition."""
        known = cast(bytes | None, self._database.get(OF_PARTITION.pack(kind, number)))
        return None if known is None else int(NUMBER.unpack(known)[0])

    def is_empty(self, number: int) -> bool:
        """Whether there is no row of a partition."""
        for kind in _BY_PARTITION:
            end = OF_PARTITION.pack(kind, number + 1)
            rows = self._database.keys(
                from_key=OF_PARTITION.pack(kind, number), read_opt=_until(end)
            )
            if next(iter(rows), None) is not None:
                return False
        return True

    def delete(self, first: bytes, end: bytes, batch: WriteBatch) -> None:
        """Delete rows for good: `scrub` knows of them."""
        batch.delete_range(first, end)
        batch.put(b"d" + first, end)

    def delete_partition(self, number: int) -> None:
        """Delete all rows of a partition for good."""
        batch = WriteBatch(raw_mode=True)
        for kind in _BY_PARTITION:
            first, end = (OF_PARTITION.pack(kind, each) for each in (number, number + 1))
            self.delete(first, end, batch)
        for kind in (b"o", b"k"):
            batch.delete(OF_PARTITION.pack(kind, number))
        self._database.write(batch)

    def scrub(self) -> None:
        """Rewrite the files so that what was deleted for good is in none; for any thread."""
        deleted = list(self._between(b"d"))
        if not deleted:
            return
        self._database.flush()
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        for key, end in deleted:
            self._database.compact_range(key[1:], end, options)
        for key, _ in deleted:
            self._database.delete(key)

    def _between(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._database.items(from_key=kind, read_opt=_until(bytes([kind[0] + 1])))
        return cast(Iterator[tuple[bytes, bytes]], rows)


def _until(key: bytes) -> ReadOptions:
    """Iterators end before `key`."""
    options = ReadOptions()
    options.set_iterate_upper_bound(key)
    return options

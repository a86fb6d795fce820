"""The directory: what the writer knows of each ad id.

Owns the known version, the living slot and the delivery state of every ad id
that was ever named: a control record may come before its ad, and both the
version and the delivery state outlive a deletion. Only the writer uses it;
queries read copies of the delivery states by slot (`slots`).
"""

import numpy as np

from .arrays import Bool, Int32, Int64, UInt8, grown, growth_bytes
from .batch import BIAS_LIMIT, AdBatch, DeliveryBatch
from .kernels.cpu.admit import ABSENT, UNKNOWN, admit, find, find_or_add
from .kernels.cpu.deliver import supersede
from .kernels.cpu.states import DELIVERY

ALWAYS_MS = np.iinfo(np.int64).max

# Rebuilding the table takes longer than keeping this many rows for nothing.
FORGET_ROWS = 1_024

DEFAULT_DELIVERY = np.zeros(1, DELIVERY)
DEFAULT_DELIVERY["end_ms"] = ALWAYS_MS
DEFAULT_DELIVERY["budget_left"] = np.inf
DEFAULT_DELIVERY["pacing"] = 1
DEFAULT_DELIVERY["bid"] = 1
DEFAULT_DELIVERY["active"] = True


class AdDirectory:
    """Rows by ad id, in order of first mention; R rows in use.

    Attributes, arrays of at least R rows:
        ad_ids, versions, delivery_versions, deleted_ms: int64; versions are -1
            when unknown, `deleted_ms` is 0 for an ad that was not deleted.
        slots: int32, the living slot or -1.
        delivery: DELIVERY, the delivery state.
    """

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.zeros(1_024, np.int64)
        self._rows = np.full(1_024, ABSENT, np.int32)
        self.ad_ids = np.zeros(512, np.int64)
        self.versions = np.full(512, UNKNOWN, np.int64)
        self.delivery_versions = np.full(512, UNKNOWN, np.int64)
        self.deleted_ms = np.zeros(512, np.int64)
        self.slots = np.full(512, ABSENT, np.int32)
        self.delivery = np.repeat(DEFAULT_DELIVERY, 512)

    def find(self, ad_ids: Int64) -> Int32:
        """[B] int32, the row of each ad id, or -1."""
        found = np.empty(len(ad_ids), np.int32)
        find(self._keys, self._rows, ad_ids, found)
        return found

    def rows(self, ad_ids: Int64) -> Int32:
        """[B] int32, the row of each ad id, made if there is none."""
        self._reserve(self._needed_rows(ad_ids))
        found = np.empty(len(ad_ids), np.int32)
        self.count = find_or_add(self._keys, self._rows, self.ad_ids, self.count, ad_ids, found)
        return found

    def admit(
        self, batch: AdBatch, rows: Int32, now_ms: int, next_slot: int
    ) -> tuple[UInt8, Int32, Int32]:
        """Apply the versions of a batch.

        Args:
            batch: B records.
            rows: [B] int32, from `rows`.
            now_ms: the time of deletion to remember.
            next_slot: the first free slot.

        Returns:
            [B] uint8 outcomes (see `admit` in the kernels), [upserts] int32 new
            slots, [dying] int32 slots that the new versions replace.
        """
        outcomes = np.empty(len(batch), np.uint8)
        born = np.empty(len(batch), np.int32)
        dying = np.empty(len(batch), np.int32)
        upserts, deaths = admit(
            rows,
            batch.versions,
            batch.deleted.view(np.uint8),
            self.versions,
            self.slots,
            self.deleted_ms,
            now_ms,
            next_slot,
            outcomes,
            born,
            dying,
        )
        return outcomes, born[:upserts], dying[:deaths]

    def deliver(self, batch: DeliveryBatch, rows: Int32) -> Bool:
        """Take delivery states over; [B] bool, which records were news."""
        outcomes = np.empty(len(batch), np.uint8)
        supersede(
            rows,
            batch.versions,
            batch.reset.view(np.uint8),
            self.delivery_versions,
            outcomes,
        )
        news = outcomes.view(np.bool_)
        states = np.repeat(DEFAULT_DELIVERY, len(batch))
        set_up = ~batch.reset
        for name in DELIVERY.names or ():
            states[name][set_up] = getattr(batch, name)[set_up]
        np.clip(states["bias"], -BIAS_LIMIT, BIAS_LIMIT, out=states["bias"])
        # Of several records for one ad NumPy keeps the last assignment.
        self.delivery[rows[news]] = states[news]
        return news

    def without_deleted(self, before_ms: int) -> "AdDirectory":
        """This directory, or one that forgot the versions of ads deleted before.

        Rows with a delivery state stay: the ad may be created again, and its
        control record will not come again. Row numbers change.
        """
        used = slice(0, self.count)
        expired = (self.deleted_ms[used] > 0) & (self.deleted_ms[used] < before_ms)
        if np.count_nonzero(expired) < FORGET_ROWS:
            return self
        kept = ~(expired & (self.delivery_versions[used] == UNKNOWN))
        columns = self.columns()
        columns["versions"][expired] = UNKNOWN
        columns["deleted_ms"][expired] = 0
        return AdDirectory.from_columns({name: column[kept] for name, column in columns.items()})

    def _columns(self) -> dict[str, np.ndarray]:
        own = {name: getattr(self, name) for name in _OWN_COLUMNS}
        return own | {name: self.delivery[name] for name in DELIVERY.names or ()}

    def columns(self) -> dict[str, np.ndarray]:
        """Copies of all columns, [R] each, for a snapshot."""
        return {name: column[: self.count].copy() for name, column in self._columns().items()}

    @classmethod
    def from_columns(cls, columns: dict[str, np.ndarray]) -> "AdDirectory":
        """A directory with these rows; the inverse of `columns`."""
        directory = cls()
        directory.rows(np.ascontiguousarray(columns["ad_ids"]))
        for name, column in directory._columns().items():
            column[: directory.count] = columns[name]
        return directory

    def growth_bytes(self, ad_ids: Int64) -> int:
        """How many bytes more the directory takes when these ads are named."""
        needed = self._needed_rows(ad_ids)
        places = 1 << (2 * needed).bit_length() if 2 * needed > len(self._keys) else 0
        columns = (self.versions, self.delivery_versions, self.ad_ids, self.deleted_ms, self.slots)
        return sum(growth_bytes(column, needed) for column in (*columns, self.delivery)) + max(
            0, places - len(self._keys)
        ) * (self._keys.itemsize + self._rows.itemsize)

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        columns = sum(column.nbytes for column in self._columns().values())
        return self._keys.nbytes + self._rows.nbytes + columns

    def _needed_rows(self, ad_ids: Int64) -> int:
        """Rows to have room for when these ads are named."""
        needed = self.count + len(ad_ids)
        if needed > len(self.ad_ids) or 2 * needed > len(self._keys):
            # About to grow: for those that are new only.
            needed = self.count + int(np.count_nonzero(self.find(ad_ids) == ABSENT))
        return needed

    def living(self, ad_ids: Int64) -> int:
        """How many of the ads have a slot."""
        rows = self.find(ad_ids)
        return int(np.count_nonzero(self.slots[rows[rows != ABSENT]] != ABSENT))

    def _reserve(self, rows: int) -> None:
        for name in ("versions", "delivery_versions"):
            setattr(self, name, grown(getattr(self, name), self.count, rows, UNKNOWN))
        self.ad_ids = grown(self.ad_ids, self.count, rows)
        self.deleted_ms = grown(self.deleted_ms, self.count, rows, 0)
        self.slots = grown(self.slots, self.count, rows, ABSENT)
        self.delivery = grown(self.delivery, self.count, rows, DEFAULT_DELIVERY)
        if 2 * rows > len(self._keys):
            places = 1 << (2 * rows).bit_length()
            self._keys = np.zeros(places, np.int64)
            self._rows = np.full(places, ABSENT, np.int32)
            known = self.ad_ids[: self.count].copy()
            find_or_add(
                self._keys, self._rows, self.ad_ids, 0, known, np.empty(self.count, np.int32)
            )


_OWN_COLUMNS = ("ad_ids", "versions", "delivery_versions", "deleted_ms", "slots")

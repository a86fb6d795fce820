"""Ads in JSON to a batch of the index.

Owns which records of a batch the kernel reads, and what Python adds to them: numbers for new
features, targeting rules, what the models read. Promises the same columns as `stream.codec` and
`daemon.translate` make, and leaves to them every record that is not plainly an ad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpuindex import NO_GROUP, AdBatch, Targeting
from gpuindex.kernels.cpu.keys import ABSENT, digest
from stream.codec import Message
from stream.errors import Rejected
from stream.formats import JSON, Format, format_of
from stream.records import Rule
from stream.strict import check_names

from ..features import FeatureMap
from ..models import Models
from ..translate import ADVERTISER, CAMPAIGN, rules
from . import kernel
from .known import KnownFeatures

# A value takes two quotes and a comma, and every ad has two owners.
VALUE_BYTES = 3
OWNERS = 2
# Most features are known; an ad that finds no room for others is left.
FEW_UNKNOWN = 4_096
BYTES_PER_UNKNOWN = 16

_read_rules = msgspec.json.Decoder(dict[str, Rule]).decode


class AdScan:
    """Reads batches of records of `ads`.

    Args:
        features: numbers the features.
        models: what they read of an ad is read of it here.
        default: the format of records whose headers name none.
    """

    def __init__(self, features: FeatureMap, models: Models, default: Format) -> None:
        self._features = features
        self._models = models
        self._default = default
        self._known = KnownFeatures(features)
        self._watched = np.array([digest(f) for f in _read_fields(models)], np.uint64)
        self._reads_owners = models.reads_any(ADVERTISER, CAMPAIGN)

    def read(self, messages: Sequence[Message]) -> tuple[AdBatch, NDArray[np.int64]]:
        """Read those that it can.

        Returns:
            The ads, and where in `messages` each of them is, ascending.
        """
        places = [place for place, message in enumerate(messages) if self._concerns(message)]
        scanned = self._scanned([messages[place] for place in places])
        targeting = _targeting(scanned)
        self._number(scanned)
        groups = _groups(scanned)
        rows = np.flatnonzero(scanned.outcomes == kernel.TAKEN)
        read = [self._read_by_models(scanned, row) for row in rows.tolist()]
        self._derive(scanned, rows, read)
        end, nothing = scanned.bounds[-1], (len(places), 0)
        batch = AdBatch(
            ad_ids=scanned.ad_ids,
            versions=scanned.versions,
            deleted=np.zeros(len(places), np.bool_),
            feature_offsets=scanned.bounds,
            feature_ids=scanned.ids[:end],
            weights=scanned.weights[:end],
            embeddings=np.zeros(nothing, np.int8),
            payload=np.zeros(nothing, np.int64),
            targeting=targeting,
            groups=groups,
        )
        if len(rows) < len(places):
            batch = AdBatch.joined([batch], rows)
        payload = self._models.items(read)
        batch = replace(batch, payload=payload, embeddings=self._models.embed(payload))
        return batch, np.array(places, np.int64)[rows]

    def _concerns(self, message: Message) -> bool:
        if message.value is None or message.key is None:
            return False
        if not message.headers:
            return self._default is JSON
        try:
            return format_of(message.headers, self._default) is JSON
        except Rejected:
            return False

    def _scanned(self, messages: Sequence[Message]) -> Scanned:
        values = [message.value or b"" for message in messages]
        keys = [message.key or b"" for message in messages]
        text = b"".join((*values, kernel.OWNERS))
        known, records = self._known, len(messages)
        room = len(text) // VALUE_BYTES + OWNERS * records
        scanned = Scanned(
            text=text,
            outcomes=np.empty(records, np.uint8),
            ad_ids=np.empty(records, np.int64),
            versions=np.empty(records, np.int64),
            bounds=np.empty(records + 1, np.int32),
            ids=np.empty(room, np.int32),
            weights=np.empty(room, np.uint8),
            unknown=np.empty((FEW_UNKNOWN + len(text) // BYTES_PER_UNKNOWN, 5), np.int64),
            targeting=np.empty((records, 2), np.int64),
            firsts=np.empty((records, len(self._watched)), np.int32),
            named=np.empty(records, np.uint8),
        )
        unknown = kernel.read_ads(
            np.frombuffer(text, np.uint8),
            _bounds(values),
            np.frombuffer(b"".join(keys), np.uint8),
            _bounds(keys),
            known.arena,
            known.table,
            self._watched,
            scanned.outcomes,
            scanned.ad_ids,
            scanned.versions,
            scanned.bounds,
            scanned.ids,
            scanned.weights,
            scanned.unknown,
            scanned.targeting,
            scanned.firsts,
            scanned.named,
            np.empty((2, kernel.REPEATS), np.uint64),
        )
        return replace(scanned, unknown=scanned.unknown[:unknown])

    def _number(self, scanned: Scanned) -> None:
        """Give the features that are new their numbers; an ad that is no text is left."""
        rows = np.searchsorted(scanned.bounds, scanned.unknown[:, 0], side="right") - 1
        new: list[tuple[int, int, str, str]] = []
        for row, unknown in zip(rows.tolist(), scanned.unknown.tolist(), strict=True):
            place, field_at, field_end, value_at, value_end = unknown
            try:
                field = scanned.text[field_at:field_end].decode()
                value = scanned.text[value_at:value_end].decode()
            except UnicodeDecodeError:
                scanned.outcomes[row] = kernel.LEFT
            else:
                new.append((row, place, field, value))
        # Numbers are for ever, so only once it is known of all of an ad that it is taken.
        outcomes = scanned.outcomes.tolist()
        for row, place, field, value in new:
            if outcomes[row] == kernel.TAKEN:
                scanned.ids[place] = self._features.of_field(field)[value]
        self._known.update()

    def _read_by_models(self, scanned: Scanned, row: int) -> Mapping[str, Iterable[str]]:
        """As `AdColumns` has it, with the first value of each field alone: no model reads more."""
        if self._models.encoder is None:
            return {}
        read: dict[str, Iterable[str]] = {}
        if self._reads_owners:
            end = int(scanned.bounds[row + 1])
            owners = (self._feature(scanned, place) for place in range(end - OWNERS, end))
            read |= {field: (name,) for field, name in owners if name}
        for place in scanned.firsts[row].tolist():
            if place != ABSENT:
                field, value = self._feature(scanned, place)
                read[field] = (value,)
        return read

    def _feature(self, scanned: Scanned, place: int) -> tuple[str, str]:
        field, _, value = self._features.key(int(scanned.ids[place])).partition("=")
        return field, value

    def _derive(
        self,
        scanned: Scanned,
        rows: NDArray[np.int64],
        read: Sequence[Mapping[str, Iterable[str]]],
    ) -> None:
        """Add the features that the models derive of others."""
        if self._models.encoder is None or not self._models.encoder.schema.derived:
            return
        made = np.zeros(len(scanned.outcomes), np.int32)
        ids: list[int] = []
        for row, features in zip(rows.tolist(), read, strict=True):
            derived = self._models.encoder.schema.derive(features)
            made[row] = len(derived)
            ids += (self._features.of_field(field)[value] for field, value in derived.items())
        end = scanned.bounds[-1]
        places = np.repeat(scanned.bounds[1:], made)
        scanned.ids = np.insert(scanned.ids[:end], places, ids)
        scanned.weights = np.insert(scanned.weights[:end], places, 255)
        scanned.bounds[1:] += np.cumsum(made, dtype=np.int32)
        self._known.update()


@dataclass
class Scanned:
    """What the kernel has written; `kernel.read_ads` says how."""

    text: bytes
    outcomes: NDArray[np.uint8]
    ad_ids: NDArray[np.int64]
    versions: NDArray[np.int64]
    bounds: NDArray[np.int32]
    ids: NDArray[np.int32]
    weights: NDArray[np.uint8]
    unknown: NDArray[np.int64]
    targeting: NDArray[np.int64]
    firsts: NDArray[np.int32]
    named: NDArray[np.uint8]


def _targeting(scanned: Scanned) -> list[Targeting | None]:
    """The ads' rules; an ad that has others than it may is left."""
    targeting: list[Targeting | None] = [None] * len(scanned.outcomes)
    begins, ends = scanned.targeting.T
    for row in np.flatnonzero((scanned.outcomes == kernel.TAKEN) & (begins < ends)).tolist():
        try:
            record_rules = _read_rules(scanned.text[begins[row] : ends[row]])
            check_names(record_rules)
        except (Rejected, ValueError, RecursionError):
            scanned.outcomes[row] = kernel.LEFT
        else:
            targeting[row] = rules(record_rules) or None
    return targeting


def _groups(scanned: Scanned) -> NDArray[np.int32]:
    """[B] int32, the advertisers, of those ads that name one."""
    groups = np.full(len(scanned.outcomes), NO_GROUP, np.int32)
    rows = np.flatnonzero((scanned.outcomes == kernel.TAKEN) & (scanned.named != 0))
    groups[rows] = scanned.ids[scanned.bounds[rows + 1] - OWNERS]
    return groups


def _read_fields(models: Models) -> list[str]:
    """The fields of an ad's features that the models read or derive others of."""
    if models.encoder is None:
        return []
    schema = models.encoder.schema
    sources = {schema.source(name) for name in schema.item_fields} - {None}
    return sorted({*schema.item_fields, *(source for source in sources if source)})


def _bounds(pieces: Sequence[bytes]) -> NDArray[np.int64]:
    """Each piece's range in all of them joined."""
    bounds = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)), out=bounds[1:])
    return bounds

"""A replica: the index that the topics make up to some offsets, to hold a worker's against.

Owns an index of its own, filled from `ads` and `ads-control` by the worker's decoders and appliers,
and the comparison of the two. Promises that an ad is called different only when the topics say so:
a compacted topic keeps an ad's last record alone, so an ad that has changed after the worker's
offsets cannot be rebuilt as it was there, and is counted apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpuindex import Index
from gpuindex.digest import AdHashes, ad_hashes
from stream.codec import CLOCK_KEY, Message, parse_id
from stream.formats import FORMATS
from stream.reader import TopicReader
from stream.topics import ADS, ADS_CONTROL

from . import cluster
from .appliers import AdsApplier, Applier, ControlApplier
from .clock import ReplayClock, wall_ms
from .digests import Digest, Offsets
from .index_writer import IndexWriter, index_settings
from .models import Models
from .settings import Settings

POLL_MS = 200

Ask = Callable[[Collection[int]], Awaitable[Digest]]
"""Asks a worker for its digest, with the ads of some parts listed."""


@dataclass(frozen=True)
class Difference:
    """An ad on which a worker and the topics do not agree.

    `what` is missing (only the topics have it), surplus (only the worker has it), state or
    embedding.
    """

    ad_id: int
    what: str


@dataclass(frozen=True)
class Verdict:
    """How a worker compares with the topics.

    Attributes:
        digest: the worker's last answer.
        differences: what differs.
        changed_since: ads that changed after its offsets and could not be compared.
    """

    digest: Digest
    differences: list[Difference] = field(default_factory=list)
    changed_since: int = 0


class Replica:
    """Use it as `async with`; it reads on from where it is, and never back."""

    def __init__(self, settings: Settings, models: Models) -> None:
        self._kafka = cluster.kafka(settings.kafka)
        self._batch_records = settings.intake.batch_records
        self._reader = TopicReader(self._kafka, map(self._kafka.topic, (ADS, ADS_CONTROL)))
        index = Index(index_settings(settings, models))
        self._writer = IndexWriter(index, models, ReplayClock(), settings, {}, {}, durable=False)
        formats = settings.formats
        self._appliers: dict[str, Applier[Any]] = {
            ADS: AdsApplier(self._writer, models, FORMATS[formats.ads]),
            ADS_CONTROL: ControlApplier(
                self._writer, models, ReplayClock(), FORMATS[formats.ads_control]
            ),
        }
        self._read_ahead: list[Message] = []

    async def __aenter__(self) -> Replica:
        await self._reader.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._reader.stop()

    async def advance(self, offsets: Offsets) -> None:
        """Apply every record before the given next offsets that was not applied yet."""

        def due(message: Message) -> bool:
            topic = self._kafka.name(message.topic)
            return message.offset < offsets.get(topic, {}).get(message.partition, 0)

        while True:
            self._apply([message for message in self._read_ahead if due(message)])
            self._read_ahead = [message for message in self._read_ahead if not due(message)]
            if self._past(offsets):
                return
            self._read_ahead += await self._reader.read(POLL_MS, self._batch_records)

    async def changed_since(self) -> set[int]:
        """The ads of all records behind those applied; nothing can be applied after this."""
        ends = {
            self._kafka.name(topic): by_partition
            for topic, by_partition in (await self._reader.end_offsets()).items()
        }
        while not self._past(ends):
            self._read_ahead += await self._reader.read(POLL_MS, self._batch_records)
        return {
            parse_id(message.key.decode())
            for message in self._read_ahead
            if message.key is not None and message.key != CLOCK_KEY
        }

    def hashes(self) -> AdHashes:
        """Of every ad as it is now."""
        return ad_hashes(self._writer.published.view)

    def _past(self, offsets: Offsets) -> bool:
        positions = self._reader.positions()
        return all(
            positions[self._kafka.topic(topic)].get(partition, 0) >= offset
            for topic, by_partition in offsets.items()
            for partition, offset in by_partition.items()
        )

    def _apply(self, messages: list[Message]) -> None:
        for name, applier in self._appliers.items():
            own = [message for message in messages if message.topic == self._kafka.topic(name)]
            if own:
                # What a worker rejects never reaches its index either.
                applier.apply(applier.decode(own, wall_ms()), {})
        while self._writer.maintain():
            pass


async def compare(ask: Ask, replica: Replica) -> Verdict:
    """Hold a worker against the topics, at the offsets of its answers."""
    digest = await ask(())
    await replica.advance(digest.offsets)
    parts = digest.differing_parts(replica.hashes())
    if not parts:
        return Verdict(digest)
    digest = await ask(parts)
    await replica.advance(digest.offsets)
    differences = _differences(digest.listed, replica.hashes().within(parts))
    if not differences:
        return Verdict(digest)
    changed = await replica.changed_since()
    kept = [difference for difference in differences if difference.ad_id not in changed]
    return Verdict(digest, kept, len(differences) - len(kept))


def _differences(worker: AdHashes, topics: AdHashes) -> list[Difference]:
    def by_ad(hashes: AdHashes) -> Mapping[int, tuple[int, int]]:
        pairs = zip(hashes.states.tolist(), hashes.embeddings.tolist(), strict=True)
        return dict(zip(hashes.ad_ids.tolist(), pairs, strict=True))

    theirs, wanted = by_ad(worker), by_ad(topics)
    differences = []
    for ad_id in np.union1d(worker.ad_ids, topics.ad_ids).tolist():
        if ad_id not in theirs:
            differences.append(Difference(ad_id, "missing"))
        elif ad_id not in wanted:
            differences.append(Difference(ad_id, "surplus"))
        elif theirs[ad_id][0] != wanted[ad_id][0]:
            differences.append(Difference(ad_id, "state"))
        elif theirs[ad_id] != wanted[ad_id]:
            differences.append(Difference(ad_id, "embedding"))
    return differences

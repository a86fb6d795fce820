"""The index with the offsets that produced it.

Owns the writing side of the index: every change goes through here, on the intake thread, and
carries the Kafka offsets that it came from. Promises that a view is published together with its
offsets, and that a snapshot holds one apply point: the ads, the delivery states, the offsets and
the replayed time belong together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gpuindex import (
    AdBatch,
    Applied,
    DeliveryBatch,
    Index,
    IndexSettings,
    IndexView,
    MemoryBudgetExceeded,
    SnapshotUnsupported,
    snapshots,
)
from gpuindex.device.choice import DeviceKind
from monitoring.metrics import (
    COMPACTIONS,
    SEALS,
    SNAPSHOT_SECONDS,
    SNAPSHOT_TIME,
)

from .clock import Clock, wall_ms
from .features import FeatureMap
from .models import Models
from .settings import ConfigurationError, Settings

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
# delete.retention.ms of `ads` and `ads-control`.
TOMBSTONE_DAYS = 7
# A day less: reading what came since takes its time too.
MAX_SNAPSHOT_AGE_MS = (TOMBSTONE_DAYS - 1) * DAY_MS

Offsets = dict[str, dict[int, int]]

# A living worker is never much older; what a dead one left may rest on topics that are gone.
OTHERS_AGE_S = 24 * 60 * 60


@dataclass(frozen=True)
class Published:
    """What a request sees: a view and the next offsets of the records that made it."""

    view: IndexView
    offsets: Offsets


class IndexWriter:
    """The only writer of the index; every method but `published` runs on the intake thread."""

    def __init__(
        self,
        index: Index,
        models: Models,
        clock: Clock,
        settings: Settings,
        offsets: Offsets,
        *,
        durable: bool,
    ) -> None:
        """Begin with an index and the offsets that made it; `durable` if a snapshot holds both."""
        self.features = FeatureMap(index.features, models.encoder)
        self.settings = index.settings
        self._index = index
        self._models = models
        self._clock = clock
        self._folder = _folder(settings)
        self._bases = settings.bases
        self._kept = settings.snapshot.keep
        self._source = _source(settings)
        self._offsets = offsets
        self._counted = (index.seals, index.compactions)
        self._published = Published(index.publish(), self._copy_offsets())
        self._durable = self._published if durable else None

    @classmethod
    def open(
        cls, settings: Settings, models: Models, clock: Clock, device: DeviceKind
    ) -> IndexWriter:
        """Restore the newest usable snapshot, or begin with an empty index.

        A worker without one takes one of another worker on this machine that reads the same topics:
        all of them hold the same ads, so it starts where the other was. A snapshot whose ads were
        embedded by another retriever, or one that is so old that deletions may have expired since,
        is left alone: the topics are read from their beginning.

        Raises:
            ConfigurationError: the worker's own snapshot was written by a newer version, or the
                device has no room for the ads of a snapshot.
        """
        wanted = index_settings(settings, models, device)
        loaded, folder = _load(settings, wanted, models)
        if loaded is None:
            index, offsets, durable = Index(wanted), Offsets(), False
        else:
            index, durable = loaded.index, folder == _folder(settings)
            offsets = {
                topic: {int(partition): offset for partition, offset in by_partition.items()}
                for topic, by_partition in loaded.offsets.items()
            }
            if loaded.extra["clock"] == clock.mode:
                clock.advance(loaded.extra["now_ms"])
            log.info(
                "snapshot_restored", folder=str(folder), epoch=index.view.epoch, offsets=offsets
            )
        return cls(index, models, clock, settings, offsets, durable=durable)

    @property
    def published(self) -> Published:
        """What queries get now; any thread may ask."""
        return self._published

    def next_offsets(self, topic: str) -> dict[int, int]:
        """Where reading has to go on, by partition."""
        return dict(self._offsets.get(topic, {}))

    def apply_ads(self, batch: AdBatch, next_offsets: Mapping[int, int]) -> Applied:
        """Apply ads and deletions and publish them.

        Raises:
            MemoryBudgetExceeded: there is no room; nothing is applied, and trying again is safe.
        """
        applied = self._index.apply(batch)
        self._publish("ads", next_offsets)
        return applied

    def apply_deliveries(self, batch: DeliveryBatch, next_offsets: Mapping[int, int]) -> Applied:
        """Apply delivery states and publish them.

        Raises:
            MemoryBudgetExceeded: as `apply_ads`.
        """
        applied = self._index.apply_delivery(batch)
        self._publish("ads-control", next_offsets)
        return applied

    def maintain(self) -> bool:
        """Do a bounded piece of sealing and compaction; whether there was any to do."""
        busy = self._index.maintain()
        if self._count():
            self._published = Published(self._index.publish(), self._published.offsets)
        return busy

    def snapshot(self) -> None:
        """Make what is published durable, unless it is already."""
        if self._durable is self._published:
            return
        began = time.perf_counter()
        self._durable = self._published
        path = snapshots.write(
            self._index,
            self._folder,
            {
                topic: {str(partition): offset for partition, offset in by_partition.items()}
                for topic, by_partition in self._offsets.items()
            },
            {
                "written_ms": wall_ms(),
                "clock": self._clock.mode,
                "now_ms": self._clock.now_ms(),
                "models": self._models.columns,
                "source": self._source,
            },
            self._bases,
            self._kept,
        )
        self._count()
        SNAPSHOT_SECONDS.observe(time.perf_counter() - began)
        SNAPSHOT_TIME.set_to_current_time()
        log.info("snapshot_written", path=str(path), epoch=self._published.view.epoch)

    def _count(self) -> bool:
        """Count seals and compactions since the last call; whether there were any."""
        seals, compactions = self._index.seals, self._index.compactions
        before = self._counted
        self._counted = (seals, compactions)
        SEALS.inc(seals - before[0])
        COMPACTIONS.inc(compactions - before[1])
        return self._counted != before

    def memory(self) -> dict[str, int]:
        """Bytes by part of the index."""
        return dict(self._index.memory())

    def _publish(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        self._offsets.setdefault(topic, {}).update(next_offsets)
        self._published = Published(self._index.publish(), self._copy_offsets())

    def _copy_offsets(self) -> Offsets:
        return {topic: dict(by_partition) for topic, by_partition in self._offsets.items()}


def index_settings(settings: Settings, models: Models, device: DeviceKind = "cpu") -> IndexSettings:
    """The index that fits the models."""
    return IndexSettings(
        embedding_width=models.embedding_width,
        payload_width=models.payload_width,
        seal_ads=settings.index.seal_ads,
        compact_deltas=settings.index.compact_deltas,
        memory_budget_bytes=settings.index.memory_budget_bytes or None,
        device=device,
        device_memory_budget_bytes=settings.index.device_memory_budget_bytes or None,
    )


def _folder(settings: Settings) -> Path:
    return settings.worker_folder / "snapshots"


def _source(settings: Settings) -> str:
    """Where the records come from: equal for workers that read the same topics."""
    return f"{settings.kafka.bootstrap} {settings.kafka.prefix}"


def _others(settings: Settings) -> list[Path]:
    """Where other workers of this machine have written snapshots lately, the latest first."""
    written_s = {
        folder: folder.stat().st_mtime
        for folder in settings.worker.state_dir.glob("*/snapshots")
        if folder != _folder(settings)
    }
    since_s = time.time() - OTHERS_AGE_S
    lately = [folder for folder, at_s in written_s.items() if at_s > since_s]
    return sorted(lately, key=lambda folder: -written_s[folder])


def _load(
    settings: Settings, wanted: IndexSettings, models: Models
) -> tuple[snapshots.Loaded | None, Path]:
    """The worker's own newest snapshot, or else another worker's, that fits; and whose folder."""
    own = _folder(settings)
    for folder in (own, *_others(settings)):
        try:
            loaded = snapshots.load_latest(folder, wanted, settings.bases)
        except MemoryBudgetExceeded as error:
            raise ConfigurationError(f"{folder}: {error}") from error
        except SnapshotUnsupported as error:
            if folder == own:
                raise ConfigurationError(str(error)) from error
            continue
        if loaded is None:
            continue
        if reason := _unusable(loaded.extra, models, _source(settings)):
            log.warning("snapshot_left_alone", folder=str(folder), reason=reason)
            continue
        return loaded, folder
    return None, own


def _unusable(extra: Mapping[str, Any], models: Models, source: str) -> str | None:
    """Why a snapshot must not be gone on from; None if it may."""
    if extra["source"] != source:
        return f"its offsets are of other topics: {extra['source']}"
    if extra["models"] != models.columns:
        return "its ads were embedded by other models"
    age_ms = wall_ms() - extra["written_ms"]
    if age_ms > MAX_SNAPSHOT_AGE_MS:
        return f"it is {age_ms // DAY_MS} days old, and deletions expire after {TOMBSTONE_DAYS}"
    return None

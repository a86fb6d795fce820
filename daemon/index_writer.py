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
    STATE_REFUSED,
)

from .clock import Clock
from .features import FeatureMap
from .models import Models
from .origin import Identity, Origin, Refusal
from .settings import ConfigurationError, Settings

log = structlog.get_logger(__name__)

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
        identity: Identity,
        offsets: Offsets,
        *,
        durable: bool,
    ) -> None:
        """Begin with an index and the offsets that made it; `durable` if a snapshot holds both.

        `identity` says which topics the offsets are of.
        """
        self.features = FeatureMap(index.features, models.encoder)
        self.settings = index.settings
        self._index = index
        self._models = models
        self._clock = clock
        self._folder = _folder(settings)
        self._bases = settings.bases
        self._kept = settings.snapshot.keep
        self._identity = identity
        self._offsets = offsets
        self._counted = (index.seals, index.compactions)
        self._published = Published(index.publish(), self._copy_offsets())
        self._durable = self._published if durable else None

    @classmethod
    def open(
        cls, settings: Settings, models: Models, clock: Clock, device: DeviceKind, origin: Origin
    ) -> IndexWriter:
        """Restore the newest usable snapshot, or begin with an empty index.

        A worker without one takes one of another worker on this machine that reads the same topics:
        all of them hold the same ads, so it starts where the other was. A snapshot whose ads were
        embedded by another retriever, or that `origin` refuses, is left alone: without another,
        the topics are read from their beginning.

        Raises:
            ConfigurationError: the worker's own snapshot was written by a newer version, or the
                device has no room for the ads of a snapshot.
        """
        wanted = index_settings(settings, models, device)
        loaded, folder = _load(settings, wanted, models, origin)
        if loaded is None:
            index, offsets, durable = Index(wanted), Offsets(), False
        else:
            index, durable = loaded.index, folder == _folder(settings)
            offsets = _by_number(loaded.offsets)
            if loaded.extra["clock"] == clock.mode:
                clock.advance(loaded.extra["now_ms"])
            log.info(
                "snapshot_restored", folder=str(folder), epoch=index.view.epoch, offsets=offsets
            )
        return cls(index, models, clock, settings, origin.identity(), offsets, durable=durable)

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

    def snapshot(self, complete_ms: int) -> None:
        """Make what is published durable, unless it is already.

        Args:
            complete_ms: every record that was written before is applied; epoch ms. From then on
                counts how long the snapshot may be gone on from.
        """
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
                "complete_ms": complete_ms,
                "clock": self._clock.mode,
                "now_ms": self._clock.now_ms(),
                "models": self._models.columns,
                "source": self._identity,
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


def _by_number(offsets: Mapping[str, Mapping[str, int]]) -> Offsets:
    """JSON has only text as keys."""
    return {
        topic: {int(partition): offset for partition, offset in by_partition.items()}
        for topic, by_partition in offsets.items()
    }


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
    settings: Settings, wanted: IndexSettings, models: Models, origin: Origin
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
        if refused := _refusal(loaded, models, origin):
            why, reason = refused
            STATE_REFUSED.labels(why).inc()
            log.error("snapshot_refused", folder=str(folder), why=why, reason=reason)
            continue
        return loaded, folder
    return None, own


def _refusal(
    loaded: snapshots.Loaded, models: Models, origin: Origin
) -> tuple[Refusal, str] | None:
    """Why a snapshot must not be gone on from; None if it may."""
    extra = loaded.extra
    if extra["models"] != models.columns:
        return Refusal.MODELS, "its ads were embedded by other models"
    # Snapshots of earlier versions do not say how complete they are.
    complete_ms = extra.get("complete_ms", 0)
    return origin.refusal(extra["source"], _by_number(loaded.offsets), complete_ms)

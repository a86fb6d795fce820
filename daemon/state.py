"""What requests are answered from: index, histories and models, once they are open.

Owns what is told of them: in `/v1/status`, `/v1/ads` and `/v1/digest`, and as metrics, which are
read where they live at the moment of the scrape. Filling them is `ingest`'s part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import gpuindex
from gpuindex.shard import ShardKind
from monitoring.build import record_build
from monitoring.metrics import (
    HISTORY_BYTES,
    HISTORY_USERS,
    INDEX_ADS,
    INDEX_BYTES,
    INDEX_EPOCH,
    SHARD_KINDS,
)
from stream.histories import HistoryStore
from stream.topics import USER_EVENTS

from . import digests
from .clock import Clock
from .histories import EncodedHistories
from .index_writer import IndexWriter
from .models import Models
from .requests import RequestDesk
from .scoring import Scorer

# Of `/v1/status`, while nothing is open.
NOTHING_OPEN: dict[str, Any] = {"epoch": None, "ads": {}, "offsets": {}, "models": {}, "memory": {}}


@dataclass(frozen=True)
class State:
    """All of it, open."""

    clock: Clock
    models: Models
    writer: IndexWriter
    store: HistoryStore
    histories: EncodedHistories
    scorer: Scorer
    desk: RequestDesk

    def warm(self) -> None:
        """Compile or load every kernel and run every model once, before anybody waits for it."""
        gpuindex.warm(self.writer.settings)
        self.scorer.warm()

    def status(self) -> dict[str, Any]:
        """Its part of `GET /v1/status`."""
        published = self.writer.published
        return {
            "epoch": published.view.epoch,
            "ads": published.view.counts(),
            "offsets": {
                **{topic: dict(next_offsets) for topic, next_offsets in published.offsets.items()},
                USER_EVENTS: self.store.next_offsets(),
            },
            "models": self.models.versions,
            "memory": self.writer.memory(),
        }

    def ad(self, ad_id: int) -> dict[str, Any]:
        """What `GET /v1/ads/{ad_id}` answers."""
        state = self.writer.published.view.describe(ad_id, self.clock.now_ms())
        return {
            "ad_id": str(ad_id),
            "present": state.present,
            "eligible": state.eligible,
            "reasons": list(state.reasons),
            "version": state.version,
            "slot": state.slot,
            "shard": state.shard,
        }

    async def digest(self, listed: Collection[int]) -> dict[str, Any]:
        """Of `GET /v1/digest`; hashing leaves the event loop and the intake alone."""
        published = self.writer.published
        body = await asyncio.to_thread(digests.describe, published.view, published.offsets, listed)
        return {"models": self.models.columns, **body}

    def export(self, device: str) -> None:
        """Let metrics be read from it; `device` is what searches."""
        record_build(device)
        HISTORY_USERS.set_function(self.store.users)
        HISTORY_BYTES.set_function(lambda: self.histories.size_bytes)
        INDEX_EPOCH.set_function(lambda: self.writer.published.view.epoch)
        for kind in SHARD_KINDS:
            INDEX_ADS.labels(kind).set_function(partial(self._ads, kind))
        for part in self.writer.memory():
            INDEX_BYTES.labels(part).set_function(partial(self._bytes, part))

    def _ads(self, kind: ShardKind) -> float:
        return float(self.writer.published.view.counts()[kind])

    def _bytes(self, part: str) -> float:
        return float(self.writer.memory()[part])

"""This worker among the workers: the parts that follow from its share of the users, wired.

Owns the agent on `score-requests` and what depends on its partitions: who owns which users, their
checkpoints, the directory, requests that wait or are passed on. Promises that these stop in an
order in which every request that was taken is answered, and what changed is written before the next
owner reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from stream.histories import HistoryStore
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import ErrorBody
from stream.requests import RequestAgent
from stream.settings import Kafka

from .applied import Applied
from .checkpoints import Checkpoints
from .clock import Clock
from .departures import Departures
from .forwarding import Forwarding
from .histories import Expiry
from .ingest import IngestLoop, IntakeThread
from .ownership import Ownership
from .parking import Parking
from .requests import RequestDesk
from .settings import Settings
from .users import Users


class Membership:
    """Everything that follows from the partitions of this worker.

    Args:
        settings: the worker's.
        kafka: the cluster.
        store: the histories.
        source: the topic that their offsets are of.
        thread: where they are written.
        reader: of `user-events`; follows no partition yet.
        ingest: the loop that reads with it.
        applied: how far the loops are.
        checkpoints: of this worker.
        departures: cleans up after users who left.
        desk: answers requests.
        publisher: writes records.
        clock: the worker's.
        catch_up: waits for what the loop reads for the first time, and tells how far it is.
        begun: told when the first partitions are here.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: Kafka,
        store: HistoryStore,
        source: str,
        thread: IntakeThread,
        reader: TopicReader,
        ingest: IngestLoop[Any],
        applied: Applied,
        checkpoints: Checkpoints,
        departures: Departures,
        desk: RequestDesk,
        publisher: Publisher,
        clock: Clock,
        expiry: Expiry,
        catch_up: Callable[[], Coroutine[Any, Any, None]],
        begun: Callable[[], None],
    ) -> None:
        self._forwarding = Forwarding(kafka, publisher, settings.worker.id)
        self._checkpoints = checkpoints
        self._departures = departures
        self._ownership = Ownership(
            store,
            source,
            thread,
            reader,
            ingest,
            applied,
            checkpoints,
            kafka,
            self._forwarding.announce,
            catch_up,
            begun,
            departures.note,
        )
        self._parking = Parking(
            desk, self._ownership, self._forwarding, settings.scoring.max_parked
        )
        self.agent = RequestAgent(
            kafka,
            settings.kafka.group,
            settings.worker.id,
            settings.worker_folder / "faust",
            self._parking.accept,
            self._ownership.assign,
        )
        self.users = Users(store, expiry, publisher, kafka, applied, departures, clock)

    def parts(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run for as long as the worker lives, by name."""
        return {
            "directory": self._forwarding.run(),
            "ownership": self._ownership.run(),
            "checkpoints": self._checkpoints.run(),
            "departures": self._departures.run(),
        }

    async def start(self, url: str) -> None:
        """Begin to read the directory; `url` is where others reach this worker."""
        await self._forwarding.start(url)

    async def leave(self) -> None:
        """Refuse who still waits for users, and take the listing back."""
        await self._parking.close()
        await self._forwarding.withdraw()

    async def stop(self) -> None:
        """Disconnect from the directory, when its part has ended."""
        await self._forwarding.stop()

    async def elsewhere(
        self, http: web.Request, user_id: int, patience_s: float, answer_s: float
    ) -> web.Response | ErrorBody | None:
        """What answers a request about a user of another worker; None if the user is here."""
        return await self._forwarding.elsewhere(
            http, user_id, self._ownership, patience_s, answer_s
        )

    def status(self) -> dict[str, Any]:
        """For `/v1/status`."""
        return {"partitions": self._ownership.partitions(), "workers": self._forwarding.workers()}

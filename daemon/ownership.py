"""Which users are here: partition by partition, from the group's word to a history that is there.

Owns the way of a partition: taken from its former owner by a fence, filled from what is on disk or
from its checkpoints, read on from `user-events`, and caught up before a request for one of its
users is scored; or let go of, with everything that is kept of it. Promises that the new owner
answers for nobody before it has all of the partition's events, and that no event is lost or counted
twice on the way. Who owns what is the group's decision; who waits for it, `parking`'s and
`forwarding`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NoReturn

import structlog

from monitoring.metrics import HISTORY_PARTITIONS, TAKEOVER_SECONDS
from stream.checkpoint_topic import read_checkpoints
from stream.checkpoints import MARK_KEY, Checkpoint, join, read_checkpoint, read_mark
from stream.errors import BrokerUnavailable
from stream.histories import HistoryStore
from stream.publish import PublishFailed
from stream.reader import Record, TopicReader
from stream.settings import Kafka
from stream.topics import USER_EVENTS

from .applied import Applied
from .checkpoints import Checkpoints
from .ingest import IngestLoop, IntakeThread
from .origin import where_to_go_on

log = structlog.get_logger(__name__)

# Between two tries to take partitions from a broker that is away.
RETRY_S = 1.0


class Ownership:
    """The partitions of this worker's users.

    Args:
        store: the histories.
        source: the topic that their offsets are of.
        thread: where the store is written.
        reader: of `user-events`; follows no partition yet.
        ingest: the loop that reads with it.
        applied: how far the loop is.
        checkpoints: of this worker.
        kafka: the cluster.
        announce: told of every decision of the group.
        catch_up: waits for what the loop reads for the first time, and tells how far it is.
        begun: told when the group's first decision is carried out.
        cleanup: told when users have left: what caches and files still hold of them can go.
    """

    def __init__(
        self,
        store: HistoryStore,
        source: str,
        thread: IntakeThread,
        reader: TopicReader,
        ingest: IngestLoop[Any],
        applied: Applied,
        checkpoints: Checkpoints,
        kafka: Kafka,
        announce: Callable[[frozenset[int]], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
        begun: Callable[[], None],
        cleanup: Callable[[], None],
    ) -> None:
        self._store = store
        self._source = source
        self._thread = thread
        self._reader = reader
        self._ingest = ingest
        self._applied = applied
        self._checkpoints = checkpoints
        self._kafka = kafka
        self._announce = announce
        self._catch_up = catch_up
        self._begun = begun
        self._cleanup = cleanup
        # None: the group is about to say.
        self._assigned: frozenset[int] | None = None
        self._here: set[int] = set()
        self._has_begun = False
        self._decided = asyncio.Event()
        self._progress = asyncio.Condition()
        HISTORY_PARTITIONS.labels("assigned").set_function(lambda: len(self._assigned or ()))
        HISTORY_PARTITIONS.labels("here").set_function(lambda: len(self._here))

    def assign(self, partitions: frozenset[int] | None) -> None:
        """The group has decided; None: it is about to, and nothing moves until it has."""
        self._assigned = partitions
        if partitions is not None:
            # At once: another worker may answer for the others from now on.
            self._here &= partitions
            self._decided.set()

    def here(self, partition: int) -> bool:
        """Whether requests for the partition's users can be scored."""
        return self._has_begun and partition in self._here

    def coming(self, partition: int) -> bool:
        """Whether they will be, as far as is known."""
        return self._assigned is None or partition in self._assigned

    def partitions(self) -> dict[str, list[int]]:
        """Those that the group has assigned, and those of them that are here."""
        return {"assigned": sorted(self._assigned or ()), "here": sorted(self._here)}

    async def wait(self, partition: int) -> bool:
        """Wait until the partition is here; False when it is another worker's."""
        async with self._progress:
            await self._progress.wait_for(
                lambda: self.here(partition) or not self.coming(partition)
            )
        return self.here(partition)

    async def run(self) -> NoReturn:
        """Carry out what the group decides; a decision ends what is left of the one before."""
        while True:
            await self._decided.wait()
            self._decided.clear()
            if self._assigned is not None:
                move = asyncio.create_task(self._move_until_done(self._assigned))
                decided = asyncio.create_task(self._decided.wait())
                try:
                    await asyncio.wait({move, decided}, return_when=asyncio.FIRST_COMPLETED)
                    if move.done():
                        move.result()
                finally:
                    move.cancel()
                    decided.cancel()
                    await asyncio.wait({move, decided})

    async def _move_until_done(self, assigned: frozenset[int]) -> None:
        while True:
            try:
                return await self._move(assigned)
            except (BrokerUnavailable, PublishFailed) as error:
                log.warning("partitions_not_taken_yet", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _move(self, assigned: frozenset[int]) -> None:
        began_s = time.monotonic()
        await self._tell()
        await self._announce(assigned)
        if lost := self._store.next_offsets().keys() - assigned:
            await self._let_go(lost)
        if gained := assigned - self._here:
            await self._take(gained)
            TAKEOVER_SECONDS.observe(time.monotonic() - began_s)
            log.info("partitions_taken", partitions=sorted(gained), users=self._store.users())
        if not self._has_begun:
            self._has_begun = True
            self._begun()
        await self._tell()

    async def _take(self, gained: frozenset[int]) -> None:
        # The fence first: the checkpoints that are read then are the last of the former owner.
        await asyncio.gather(*map(self._checkpoints.take, gained))
        await self._fill(gained)
        await self._follow(gained | self._here)
        ends = await self._reader.bounds(gained)
        if not self._has_begun:
            await self._catch_up()
        await asyncio.gather(*(self._arrive(number, ends[number][1]) for number in gained))

    async def _let_go(self, lost: Collection[int]) -> None:
        await self._follow(self._here)
        for number in lost:
            await self._checkpoints.let_go(number)
            await self._thread.run(self._store.drop, number)
        self._cleanup()
        log.info("partitions_let_go", partitions=sorted(lost))

    async def _follow(self, partitions: Collection[int]) -> None:
        """Read exactly these, each from where its histories are."""
        positions = self._store.next_offsets()
        await self._ingest.follow({number: positions[number] for number in partitions})

    async def _fill(self, gained: frozenset[int]) -> None:
        """Hold partitions, from what is on disk of them or from their checkpoints."""
        bounds = await self._reader.bounds(gained)
        held = {n: offset for n, offset in self._store.next_offsets().items() if n in gained}

        def readable(offsets: Mapping[int, int]) -> frozenset[int]:
            return frozenset(n for n, at in offsets.items() if bounds[n][0] <= at <= bounds[n][1])

        wanting = gained - readable(held)
        # Where the next events are gone, checkpoints may be newer than what is on disk.
        better = readable(await self._marks(wanting & held.keys()))
        marks = await self._load((wanting - held.keys()) | better)
        starts = where_to_go_on({**held, **marks}, bounds)
        for number in gained:
            start = starts.get(number, bounds[number][0])
            await self._thread.run(self._store.begin, number, start)
            self._checkpoints.begin(number, self._store.checkpointed(number))

    async def _marks(self, partitions: Collection[int]) -> dict[int, int]:
        """Partition -> the mark of its checkpoints, if it has one."""
        loading = Loading(self._source)
        if partitions:
            async for records in read_checkpoints(self._kafka, partitions):
                loading.sort([record for record in records if record.key == MARK_KEY])
        return loading.marks

    async def _load(self, partitions: Collection[int]) -> dict[int, int]:
        """Fill partitions from their checkpoints; partition -> its mark, if it has one."""
        for number in partitions:
            await self._thread.run(self._store.drop, number)
        loading = Loading(self._source)
        if partitions:
            async for records in read_checkpoints(self._kafka, partitions):
                for number, checkpoints in loading.sort(records).items():
                    await self._thread.run(self._store.load, number, checkpoints)
            for number, checkpoints in loading.joined().items():
                await self._thread.run(self._store.load, number, checkpoints)
            for number, parts in loading.parts.items():
                await self._thread.run(self._store.note_parts, number, parts)
        return loading.marks

    async def _arrive(self, number: int, end: int) -> None:
        """Wait until a partition is caught up; then its users are here."""
        await self._applied.reach({USER_EVENTS: {number: end}})
        self._here.add(number)
        await self._tell()

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()


class Loading:
    """The records of `user-histories`, sorted into histories and marks.

    Attributes:
        marks: partition -> the newest mark, if it is one of this topic.
        parts: partition -> user -> how many records the user has, those of other topics and of
            longer histories among them.
    """

    def __init__(self, source: str) -> None:
        self.marks: dict[int, int] = {}
        self.parts: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._source = source
        # Those that are too long for one record, until all of their parts are there.
        self._incomplete: defaultdict[tuple[int, int], dict[int, Checkpoint]] = defaultdict(dict)

    def sort(self, records: Collection[Record]) -> dict[int, list[tuple[int, Checkpoint]]]:
        """Partition -> whole histories among `records`, in order."""
        whole: defaultdict[int, list[tuple[int, Checkpoint]]] = defaultdict(list)
        for record in records:
            if record.key is None or record.value is None:
                continue
            number = record.partition
            if record.key == MARK_KEY:
                mark = read_mark(record.value)
                if mark.source == self._source:
                    self.marks[number] = mark.next_offset
                else:
                    # Who wrote it may have written over histories that an earlier mark relies on.
                    self.marks.pop(number, None)
                continue
            user_id, part, checkpoint = read_checkpoint(record.key, record.value)
            if part:
                self.parts[number][user_id] = max(self.parts[number].get(user_id, 1), part + 1)
            # Offsets of another topic mean nothing here, and its events are not this one's.
            if checkpoint.source != self._source:
                continue
            if checkpoint.parts == 1 and part == 0:
                self._incomplete.pop((number, user_id), None)
                whole[number].append((user_id, checkpoint))
            else:
                self._incomplete[number, user_id][part] = checkpoint
        return whole

    def joined(self) -> dict[int, list[tuple[int, Checkpoint]]]:
        """Partition -> histories that came in parts."""
        whole: defaultdict[int, list[tuple[int, Checkpoint]]] = defaultdict(list)
        for (number, user_id), parts in self._incomplete.items():
            # A history that has become shorter leaves parts behind, which nobody counts.
            if 0 in parts:
                belonging = [parts[part] for part in sorted(parts) if part < parts[0].parts]
                whole[number].append((user_id, join(belonging)))
        return whole

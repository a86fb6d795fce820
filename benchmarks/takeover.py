"""How soon a dead worker's users are another worker's.

Two workers share the users of a real Kafka. When all histories are on `user-histories` and some
more events have come, one worker is killed. Measured is the time from the end of its session (6 s
after the kill; Kafka gives its partitions away then) until the other one has every user with every
event. A part of it, from the group's decision on, is the other worker's own figure.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daemon.client import WorkerClient
from daemon.process import WorkerProcess, write_config
from daemon.rows import Rows
from stream import topics
from stream.broker import Broker
from stream.codec import encode_event, encode_id
from stream.publish import Outgoing, Publisher
from stream.records import UserEvent
from stream.requests import SESSION_TIMEOUT_S
from stream.settings import Kafka
from stream.topics import USER_EVENTS, USER_PARTITIONS

from . import command

JARS = Path(__file__).parent.parent / ".headwater" / "kafka" / "lib"
USERS = 100_000
QUICK_USERS = 2_000
# Records handed to the producer at once.
PORTION = 50_000
# Of all users, those who do something after the last checkpoints.
LATE_SHARE = 10
FIELDS = ("product", "brand", "type", "department", "store")
FEATURES: dict[str, tuple[str, ...]] = {field: (f"a {field}",) for field in FIELDS}
POLL_S = 0.02

# All histories are on the topic soon.
SETTINGS = {"history": {"checkpoint_interval_s": 1, "checkpoint_bytes_per_s": 1_000_000_000}}


def events(topic: str, users: int, rounds: range) -> Iterator[Outgoing]:
    for number in rounds:
        for user_id in range(users):
            event = UserEvent(f"purchase-{number}", 17, "buy", 1_000_000 + number, 3.99, FEATURES)
            yield topic, encode_id(user_id), encode_event(event), ()


async def publish(publisher: Publisher, records: Iterator[Outgoing]) -> None:
    portion: list[Outgoing] = []
    for record in records:
        portion.append(record)
        if len(portion) == PORTION:
            await publisher.send_all(portion)
            portion = []
    await publisher.send_all(portion)


async def status(client: WorkerClient) -> dict[str, Any]:
    return await client.get("/v1/status")


async def share(first: WorkerClient, second: WorkerClient) -> None:
    """Wait until two workers have half of the partitions each."""
    while [
        len((await status(client)).get("partitions", {}).get("here", ()))
        for client in (first, second)
    ] != [USER_PARTITIONS // 2] * 2:
        await asyncio.sleep(POLL_S)


async def hold(clients: list[WorkerClient], applied: int) -> None:
    """Wait until the workers have applied so many events together and checkpointed all."""
    while True:
        offsets = [(await status(client))["offsets"][USER_EVENTS] for client in clients]
        written = [
            await client.metric("headwater_history_checkpointed_users_total") for client in clients
        ]
        if sum(sum(by_partition.values()) for by_partition in offsets) == applied:
            break
        await asyncio.sleep(0.5)
    while True:
        await asyncio.sleep(2)
        now = [
            await client.metric("headwater_history_checkpointed_users_total") for client in clients
        ]
        if now == written:
            return
        written = now


async def measure(kafka: Kafka, folder: Path, users: int, per_user: int) -> dict[str, float]:
    await topics.create_missing(kafka)
    topic = kafka.topic(USER_EVENTS)
    workers = []
    for name in ("stays", "dies"):
        config = write_config(folder / f"{name}.toml", kafka, name, folder, SETTINGS)
        workers.append(WorkerProcess(config, folder / f"{name}.log"))
    stays, dies = workers
    try:
        async with (
            Publisher(kafka) as publisher,
            WorkerClient(await stays.start()) as survivor,
            WorkerClient(await dies.start()) as victim,
        ):
            await share(survivor, victim)
            await publish(publisher, events(topic, 2 * users, range(per_user)))
            await hold([survivor, victim], 2 * users * per_user)
            late = 2 * users // LATE_SHARE
            await publish(publisher, events(topic, late, range(per_user, per_user + 1)))
            own_s = await survivor.metric("headwater_takeover_seconds_sum")
            held = await victim.metric("headwater_history_users")
            await dies.kill()
            expired_s = time.monotonic() + SESSION_TIMEOUT_S
            while len((await status(survivor))["partitions"]["here"]) < USER_PARTITIONS:
                await asyncio.sleep(POLL_S)
            taken_s = time.monotonic()
            have = await survivor.metric("headwater_history_users")
            if have != 2 * users:
                raise SystemExit(f"{have:,.0f} of {2 * users:,} users are there")
            own_s = await survivor.metric("headwater_takeover_seconds_sum") - own_s
            return {
                "takeover_s": taken_s - expired_s,
                "takeover_s/from_decision": own_s,
                "takeover_users": held,
            }
    finally:
        for worker in workers:
            await worker.stop()


def main() -> None:
    parser = command.parser("takeover", __doc__, quick=f"{QUICK_USERS:,} users")
    parser.add_argument(
        "--users", type=int, metavar="N", help=f"of the dead worker; {USERS:,} by default"
    )
    parser.add_argument("--events", type=int, metavar="N", default=10, help="of each user; 10")
    options = parser.parse_args()
    users = options.users or (QUICK_USERS if options.quick else USERS)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "kafka", JARS)
        try:
            kafka = Kafka(broker.start())
            found = asyncio.run(measure(kafka, Path(folder), users, options.events))
        finally:
            broker.stop()
    rows = Rows()
    for axis, value in found.items():
        rows.add(axis, value, "users" if axis == "takeover_users" else "s")
    for row in rows.rows:
        print(f"{row.axis:28s} {row.value:12,.2f} {row.unit}")
    if options.json:
        rows.write(options.json)


if __name__ == "__main__":
    main()

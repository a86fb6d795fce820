"""The faults: each strikes while records are on their way, and lets the world recover.

A fault hurts processes and files from outside, as machines and people do. What
it leaves dead is started again by `World.settle`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Awaitable, Callable
from random import Random

from daemon.client import WorkerClient

from .world import World

Fault = Callable[[World, Random], Awaitable[None]]

# Longer than the session in which the group waits for a worker: others take its users over.
FROZEN_S = 9.0
FULL_DISK_S = 2.0


async def kill_worker(world: World, random: Random) -> None:
    """kill -9."""
    await random.choice(world.workers).process.kill()


async def stop_worker(world: World, random: Random) -> None:
    """SIGTERM, and a start: its users leave and come back."""
    await random.choice(world.workers).process.stop()


async def add_worker(world: World, random: Random) -> None:
    """One worker more, which takes users from the others and soon leaves, or dies."""
    await world.spare.start()
    async with WorkerClient(world.spare.url) as client:
        await world.spare.process.wait_ready(client)
    await asyncio.sleep(random.uniform(0.0, 3.0))
    if random.random() < 0.5:
        await world.spare.process.stop()
    else:
        await world.spare.process.kill()


async def freeze_worker(world: World, random: Random) -> None:
    """SIGSTOP until the others have taken its users; it wakes up believing that it has them."""
    worker = random.choice(world.workers)
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_S)
    worker.signal(signal.SIGCONT)


async def pause_worker(world: World, random: Random) -> None:
    """SIGSTOP for a moment that nobody notices."""
    worker = random.choice(world.workers)
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(0.2, 2.0))
    worker.signal(signal.SIGCONT)


async def cut_power(world: World, random: Random) -> None:
    """kill -9 of everything, and a start of the broker."""
    for worker in world.workers:
        await worker.process.kill()
    await kill_broker(world, random)


async def kill_broker(world: World, random: Random) -> None:
    """kill -9 of the broker, and a start."""
    pid = world.broker.status().pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(random.uniform(0.0, 3.0))
    await asyncio.to_thread(world.broker.start)


async def restart_broker(world: World, random: Random) -> None:
    """A clean stop of the broker, and a start."""
    await asyncio.to_thread(world.broker.stop)
    await asyncio.sleep(random.uniform(0.0, 3.0))
    await asyncio.to_thread(world.broker.start)


async def damage_snapshot(world: World, random: Random) -> None:
    """kill -9, and a file of the newest snapshot is cut or has a byte changed."""
    worker = random.choice(world.workers)
    await worker.process.kill()
    snapshots = sorted((worker.folder / "snapshots").glob("*/"), key=lambda at: at.stat().st_mtime)
    if not snapshots:
        return
    files = sorted(path for path in snapshots[-1].rglob("*") if path.is_file())
    path = random.choice(files)
    # A copy: shards are shared with other snapshots by hard links.
    raw = bytearray(path.read_bytes())
    if raw and random.random() < 0.5:
        raw[random.randrange(len(raw))] ^= 0xFF
    else:
        del raw[random.randrange(len(raw) + 1) :]
    path.unlink()
    path.write_bytes(bytes(raw))


async def lose_disk(world: World, random: Random) -> None:
    """kill -9, and everything that the worker kept is gone: the topics have it."""
    worker = random.choice(world.workers)
    await worker.process.kill()
    shutil.rmtree(worker.folder)


async def fill_disk(world: World, random: Random) -> None:
    """No file of the worker may grow for a while, as on a disk that is full."""
    worker = random.choice(world.workers)
    _, hard = resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (4_096, hard))
    await asyncio.sleep(FULL_DISK_S)
    if worker.running:
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def jump_clock(world: World, random: Random) -> None:
    """The worker's clock jumps by up to an hour, and stays there."""
    random.choice(world.workers).shift_clock(random.uniform(-3_600.0, 3_600.0))


async def nothing(world: World, random: Random) -> None:
    """Records arrive, and nothing happens."""


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        nothing,
        kill_worker,
        stop_worker,
        add_worker,
        freeze_worker,
        pause_worker,
        cut_power,
        kill_broker,
        restart_broker,
        damage_snapshot,
        lose_disk,
        fill_disk,
        jump_clock,
    )
}

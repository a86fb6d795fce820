"""Faults at random on a real installation, and a check that its state is the truth.

A round writes ads, delivery states, deletions, events and erasures whose outcome
is known, hurts something meanwhile, lets everything come to rest, and compares
all of it with what was written. What is written and hurt follows from one seed;
when exactly it strikes is the machine's affair.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import numpy as np

from daemon.digests import Digest
from gpuindex.digest import PARTS
from stream.codec import encode_event
from stream.deadletters import find

from .faults import FAULTS
from .truth import Truth
from .world import World

BURST = 400
BURSTS = 5


@dataclass
class Report:
    """What the rounds came to.

    Attributes:
        rounds: how many were done.
        faults: how often each struck.
        lost: ads, events and dead letters that are missing, or not in their newest state.
        doubled: ads and events that are there twice.
        resurrected: ads, events and dead letters that should not be there.
        inconsistent: offsets that are not the topics' ends, histories that are not in order.
        findings: each of those, in words.
    """

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    resurrected: int = 0
    inconsistent: int = 0
    findings: list[str] = field(default_factory=list)

    def note(self, where: str, lost: Collection[Any], doubled: int, extra: Collection[Any]) -> None:
        """Count what is wrong somewhere."""
        self.lost += len(lost)
        self.doubled += doubled
        self.resurrected += len(extra)
        if lost or doubled or extra:
            shown = f"lost {sorted(lost)[:9]}, doubled {doubled}, too many {sorted(extra)[:9]}"
            self.findings.append(f"round {self.rounds}: {where}: {shown}")

    def wrong(self, what: str) -> None:
        """Note what is wrong in another way."""
        self.inconsistent += 1
        self.findings.append(f"round {self.rounds}: {what}")

    @property
    def sound(self) -> bool:
        """Whether the state was the truth after every round."""
        return not self.findings


async def run(
    world: World,
    truth: Truth,
    seed: int,
    rounds: int,
    kinds: Collection[str] = tuple(FAULTS),
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Do rounds until all are done or one went wrong: what follows would prove nothing.

    Raises:
        Unsettled: the installation did not recover.
    """
    random, report = Random(seed), Report()
    # Every kind before any comes again.
    order: list[str] = []
    while report.rounds < rounds and report.sound:
        if not order:
            order = random.sample(list(kinds), len(kinds))
        kind = order.pop()
        report.rounds += 1
        report.faults[kind] += 1
        tell(f"round {report.rounds}: {kind}")
        async with asyncio.TaskGroup() as group:
            group.create_task(_write(world, truth))
            group.create_task(FAULTS[kind](world, Random(random.random())))
        await world.settle()
        await check(world, truth, report)
    return report


async def _write(world: World, truth: Truth) -> None:
    for _ in range(BURSTS):
        await world.write(truth.burst(world.kafka, BURST))


async def check(world: World, truth: Truth, report: Report) -> None:
    """Compare everything that runs with what was written."""
    await _check_ads(world, truth, report)
    await _check_users(world, truth, report)
    await _check_offsets(world, report)
    for topic, values in truth.dead.items():
        found = [letter.value async for letter in find(world.kafka, topic)]
        # At least once, and once for every worker that reads the topic.
        report.note(f"dead letters of {topic}", values - set(found), 0, set(found) - values)


async def _check_ads(world: World, truth: Truth, report: Report) -> None:
    wanted = truth.hashes()
    states = dict(zip(wanted.ad_ids.tolist(), wanted.states.tolist(), strict=True))
    every_part = ",".join(map(str, range(PARTS)))
    for worker in world.workers:
        listed = Digest.read(await worker.ask(f"/v1/digest?parts={every_part}")).listed
        held = dict(zip(listed.ad_ids.tolist(), listed.states.tolist(), strict=True))
        wrong = [ad_id for ad_id, state in states.items() if held.get(ad_id) != state]
        doubled = len(listed.ad_ids) - len(np.unique(listed.ad_ids))
        report.note(f"ads of {worker.name}", wrong, doubled, held.keys() - states.keys())


async def _check_users(world: World, truth: Truth, report: Report) -> None:
    for user_id in truth.users:
        # Whoever is asked forwards to the owner.
        worker = world.workers[user_id % len(world.workers)]
        found = (await worker.ask(f"/v1/users/{user_id}"))["events"]
        wanted = [msgspec.json.decode(encode_event(event)) for event in truth.newest(user_id)]
        lost = [event["event_id"] for event in wanted if event not in found]
        extra = [event["event_id"] for event in found if event not in wanted]
        doubled = len(found) - len({event["event_id"] for event in found})
        report.note(f"user {user_id}", lost, doubled, extra)
        if not (lost or doubled or extra) and found != wanted:
            report.wrong(f"user {user_id}: not in order of time")


async def _check_offsets(world: World, report: Report) -> None:
    """Every worker is at the ends of its topics, and not beyond."""
    ends = await world.ends()
    for worker in world.workers:
        status = await worker.ask("/v1/status")
        for topic, offsets in status["offsets"].items():
            for partition, offset in offsets.items():
                end = ends[topic][int(partition)]
                if offset != end:
                    place = f"{worker.name}: {topic} partition {partition}"
                    report.wrong(f"{place}: at {offset}, which ends at {end}")

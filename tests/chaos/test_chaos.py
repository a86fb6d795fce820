"""Nothing is lost, doubled or resurrected by a few faults; `make chaos` has all, for hours."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from chaos_rounds.rounds import Report, check, run
from chaos_rounds.truth import EVENTS_KEPT, Truth
from chaos_rounds.world import World

from stream.settings import Kafka
from stream.topics import ADS

JARS = Path(__file__).resolve().parents[2] / ".headwater" / "kafka" / "lib"
SEED = 7
# One by which users move, one that they sleep through, one that costs the worker its snapshot.
FAULTS = ("kill_worker", "pause_worker", "damage_snapshot")


@pytest.mark.timeout(400)
async def test_state_is_the_truth_after_faults_and_the_check_sees_when_it_is_not(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, JARS) as world:
        truth = Truth(SEED)
        report = await run(world, truth, SEED, len(FAULTS), FAULTS)
        assert report.findings == []
        assert set(report.faults) == set(FAULTS)
        await _see_what_is_wrong(world, truth)


async def _see_what_is_wrong(world: World, truth: Truth) -> None:
    """Hold the world against a truth that went on without telling it."""
    report = Report()
    events = next(events for events in truth.users.values() if 0 < len(events) < EVENTS_KEPT)
    event_id = next(iter(events))
    event = events.pop(event_id)
    await check(world, truth, report)
    assert (report.lost, report.doubled, report.resurrected) == (0, 0, 1)

    events[event_id] = msgspec.structs.replace(event, value=2.0)
    await check(world, truth, report)
    assert (report.lost, report.resurrected) == (1, 2)

    events[event_id] = event
    truth.forget(next(iter(truth.ads)))
    await check(world, truth, report)
    assert (report.lost, report.resurrected) == (1, 2 + len(world.workers))

    truth.dead[ADS].add(b"never written")
    await check(world, truth, report)
    assert report.lost == 2
    assert report.inconsistent == 0


def test_a_seed_writes_the_same_records_again() -> None:
    kafka = Kafka("nowhere:9092")
    truths = [Truth(SEED, start_ms=1_764_000_000_000) for _ in range(2)]
    first, second = ([truth.burst(kafka, 400) for _ in range(5)] for truth in truths)
    assert first == second

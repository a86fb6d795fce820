"""Nothing is lost, doubled or resurrected by a few faults; `make chaos` has all, for hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_rounds.rounds import Report, check, run
from chaos_rounds.truth import Truth
from chaos_rounds.world import World

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
    user_id, events = next((user_id, events) for user_id, events in truth.users.items() if events)
    event_id = next(iter(events))
    event = events.pop(event_id)
    await check(world, truth, report)
    assert (report.lost, report.doubled, report.resurrected) == (0, 0, 1)

    events[event_id] = event
    truth.users[user_id]["never-written"] = event
    await check(world, truth, report)
    assert (report.lost, report.resurrected) == (1, 1)

    del truth.users[user_id]["never-written"]
    truth.forget(next(iter(truth.ads)))
    await check(world, truth, report)
    assert (report.lost, report.resurrected) == (1, 1 + len(world.workers))

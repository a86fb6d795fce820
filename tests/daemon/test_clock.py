"""The two clocks."""

from __future__ import annotations

from daemon.clock import ReplayClock, WallClock, wall_ms


def test_the_replay_clock_moves_only_forward_and_only_when_told():
    clock = ReplayClock()
    assert clock.now_ms() == 0
    for told, now in ((100, 100), (50, 100), (101, 101)):
        clock.advance(told)
        assert clock.now_ms() == now


def test_the_wall_clock_is_not_moved():
    before = wall_ms()
    clock = WallClock()
    clock.advance(4_000_000_000_000)
    assert before <= clock.now_ms() <= wall_ms()

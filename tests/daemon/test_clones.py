"""Clones make a recording's ads many, and change nothing that the recording says."""

from collections.abc import Iterator

import pytest

from daemon.clones import CLONE_ID_STEP, WithClones
from stream.codec import encode_id
from stream.publish import Outgoing
from stream.settings import Kafka

KAFKA = Kafka("nowhere:1", "t-")
ADS, CONTROL = KAFKA.topic("ads"), KAFKA.topic("ads-control")
START_MS = 1_000


class Recorded:
    """Three ads and their flights at the start, one deletion later."""

    first_ms, start_ms, end_ms = 0, START_MS, 3_000

    def events(self, from_ms: int, until_ms: int) -> Iterator[Outgoing]:
        yield KAFKA.topic("user-events"), b"1", b"%d-%d" % (from_ms, until_ms), ()

    def ad_changes(self, time_ms: int) -> Iterator[Outgoing]:
        if time_ms == START_MS:
            for ad_id in (71, 82, 93):
                yield CONTROL, encode_id(ad_id), b"flight", ()
                yield ADS, encode_id(ad_id), b"ad %d" % ad_id, ()
        if time_ms == 2_000:
            yield ADS, encode_id(71), None, ()


def clones(ads: int) -> list[Outgoing]:
    own = list(Recorded().ad_changes(START_MS))
    changes = list(WithClones(KAFKA, Recorded(), ads).ad_changes(START_MS))
    assert changes[: len(own)] == own
    return changes[len(own) :]


@pytest.mark.parametrize("ads", [4, 6, 11, 3_000])
def test_there_are_as_many_ads_as_asked_for_each_with_its_own_id(ads: int) -> None:
    made = clones(ads)
    assert len(made) == ads - 3
    assert len({key for _, key, _, _ in made}) == len(made)
    for topic, key, value, _ in made:
        assert topic == ADS
        assert key is not None
        assert value == b"ad %d" % (int(key) % CLONE_ID_STEP)


@pytest.mark.parametrize("ads", [1, 3])
def test_a_recording_that_has_enough_ads_gets_none(ads: int) -> None:
    assert clones(ads) == []


def test_clones_come_at_the_start_only_and_the_rest_is_the_recordings() -> None:
    recording = WithClones(KAFKA, Recorded(), 50)
    assert list(recording.ad_changes(2_000)) == [(ADS, b"71", None, ())]
    assert list(recording.ad_changes(1_500)) == []
    assert list(recording.events(5, 6)) == list(Recorded().events(5, 6))
    assert (recording.first_ms, recording.start_ms, recording.end_ms) == (0, START_MS, 3_000)

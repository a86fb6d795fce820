"""Clones: a recording with as many ads as an index of real size has.

Owns the ids of clones. Promises that a clone is an ad of the recording's start under another id,
live from then on for good, and that everything the recording says itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice

from stream.codec import encode_id, parse_id
from stream.publish import Outgoing
from stream.settings import Kafka
from stream.topics import ADS

from .replay import Recording

# Far above any id of a recording, and its nine million multiples still are ids.
CLONE_ID_STEP = 10**12


class WithClones:
    """A recording whose start brings clones of its ads too."""

    def __init__(self, kafka: Kafka, recording: Recording, ads: int) -> None:
        """Wrap a recording.

        Args:
            kafka: names the topics.
            recording: what to replay; its ads' ids are below CLONE_ID_STEP.
            ads: how many are live after the start, clones included; no clones are made when the
                recording has as many itself.
        """
        self.first_ms = recording.first_ms
        self.start_ms = recording.start_ms
        self.end_ms = recording.end_ms
        self._recording = recording
        self._ads_topic = kafka.topic(ADS)
        self._ads = ads

    def events(self, from_ms: int, until_ms: int) -> Iterable[Outgoing]:
        """The recording's own."""
        return self._recording.events(from_ms, until_ms)

    def ad_changes(self, time_ms: int) -> Iterator[Outgoing]:
        """The recording's own, and at its start the clones.

        A clone has no delivery state: its original's flight ends, and nobody would renew its own.
        """
        listed: list[tuple[int, bytes]] = []
        for record in self._recording.ad_changes(time_ms):
            topic, key, value, _ = record
            if topic == self._ads_topic and key is not None and value is not None:
                listed.append((parse_id(key.decode()), value))
            yield record
        if time_ms == self.start_ms:
            yield from islice(self._clones(listed), max(0, self._ads - len(listed)))

    def _clones(self, listed: list[tuple[int, bytes]]) -> Iterator[Outgoing]:
        """One clone of every ad, then another one of every ad, and so on."""
        if not listed:
            return
        for step in count(CLONE_ID_STEP, CLONE_ID_STEP):
            for ad_id, value in listed:
                yield self._ads_topic, encode_id(ad_id + step), value, ()

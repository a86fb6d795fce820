"""What was written, and what a worker must hold because of it.

The rules are written down here a second time, in the plainest way: the newest
version of an ad and of its delivery state wins, whatever comes late or twice,
and also when the ad comes after its delivery state or a second time; an event
counts once, at its latest time; an erasure takes every event that was written
before it; of what is left, the newest events stay; and what nobody can read is
a dead letter.
"""

from __future__ import annotations

import random
import time

import msgspec

from daemon.features import FeatureMap
from daemon.models import Models
from daemon.translate import AdColumns, delivery_batch
from gpuindex import Index, IndexSettings
from gpuindex.digest import AdHashes, ad_hashes
from model.value import ValueModel
from stream.codec import VERSION_HEADER, encode_ad, encode_delivery, encode_event, encode_id
from stream.formats import FORMATS, Format, header_of
from stream.publish import Outgoing
from stream.records import ERASE, Ad, AdChange, ControlChange, Delivery, Rule, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

TOPICS = (ADS, ADS_CONTROL, USER_EVENTS)
ADS_KNOWN = 400
USERS_KNOWN = 60
VALUES = 50
# About as many as a user has between two erasures: some histories are full, and some are not.
EVENTS_KEPT = 48
# Of the erased events, those that may be written again.
REMEMBERED = 500
# Compaction would keep a record that nobody can read, in place of the one before it.
UNREADABLE_KEYS = 1_000_000_000

NO_MODELS = Models(retriever=None, ranker=None, value=ValueModel(1.0, 1.0, 0.0), encoder=None)


class Truth:
    """A world of ads and users that is written to Kafka burst by burst.

    Attributes:
        ads: the living ones by id.
        users: the events of each by event id.
        dead: topic -> values that nobody can read.
    """

    def __init__(self, seed: int, start_ms: int | None = None) -> None:
        self._random = random.Random(seed)
        self.ads: dict[int, Ad] = {}
        self._versions: dict[int, int] = {}
        self._ad_ids = list(range(ADS_KNOWN))
        self._next_ad_id = ADS_KNOWN
        self._deliveries: dict[int, Delivery | None] = {}
        self._delivery_versions: dict[int, int] = {}
        self.users: dict[int, dict[str, UserEvent]] = {n: {} for n in range(USERS_KNOWN)}
        self._erased: list[tuple[int, UserEvent]] = []
        self.dead: dict[str, set[bytes]] = {topic: set() for topic in TOPICS}
        self._events = 0
        self._start_ms = time.time_ns() // 1_000_000 if start_ms is None else start_ms

    def burst(self, kafka: Kafka, records: int) -> list[Outgoing]:
        """The next records; from now on they are part of the truth.

        To write them all again, in the same order, changes nothing: so a burst that failed half
        way is simply repeated.
        """
        kinds = (self._ad, self._delivery, self._event, self._unreadable)
        written: list[Outgoing] = []
        for _ in range(records):
            kind = self._random.choices(kinds, (30, 20, 50, 1))[0]
            written.append(kind(kafka))
        return written

    def newest(self, user_id: int) -> list[UserEvent]:
        """What is left of a user's events, oldest first."""
        by_age = sorted(
            self.users[user_id].values(), key=lambda event: (-event.time_ms, event.event_id)
        )
        return sorted(by_age[:EVENTS_KEPT], key=lambda event: (event.time_ms, event.event_id))

    def hashes(self) -> AdHashes:
        """Of the ads that every worker must hold."""
        index = Index(IndexSettings(embedding_width=0, payload_width=0))
        columns = AdColumns(FeatureMap(index.features, None), NO_MODELS)
        for ad_id, ad in self.ads.items():
            columns.add(AdChange(ad_id, ad.version, ad))
        index.apply(columns.batch())
        changes = [
            ControlChange(ad_id, version, self._deliveries[ad_id])
            for ad_id, version in self._delivery_versions.items()
        ]
        index.apply_delivery(delivery_batch(changes, NO_MODELS))
        return ad_hashes(index.publish())

    def forget(self, ad_id: int) -> None:
        """Take an ad out of the truth without telling anybody."""
        del self.ads[ad_id]

    def _ad(self, kafka: Kafka) -> Outgoing:
        """An upsert or a deletion; now and then one that is late."""
        draw = self._random
        ad_id = draw.choice(self._ad_ids)
        known = self._versions.get(ad_id, 0)
        version = max(known + draw.choice((1, 1, 1, 2, 5, 0, -1)), 0)
        news = version > known or ad_id not in self._versions
        key, topic = encode_id(ad_id), kafka.topic(ADS)
        chance = draw.random()
        if chance < 0.2:
            if news:
                self.ads.pop(ad_id, None)
                self._versions[ad_id] = version
            return topic, key, None, [(VERSION_HEADER, encode_id(version))]
        if chance < 0.22:
            # Without a version it takes the next one, and one more each time that it is written:
            # no later version can be told, so the id is not used again.
            self.ads.pop(ad_id, None)
            self._ad_ids[self._ad_ids.index(ad_id)] = self._next_ad_id
            self._next_ad_id += 1
            return topic, key, None, ()
        # Not a set, whose order would not follow from the seed.
        kinds = dict.fromkeys(f"k{draw.randrange(VALUES)}" for _ in range(draw.randrange(4)))
        ad = Ad(
            version=version,
            advertiser=f"a{draw.randrange(9)}",
            campaign=f"c{draw.randrange(30)}",
            features={
                "product": {f"p{draw.randrange(VALUES)}": draw.choice((1.0, 0.5, 0.25))},
                "kind": tuple(kinds),
            },
            targeting={"geo": Rule(allow=("de", "at"))} if draw.random() < 0.2 else {},
        )
        if news:
            self.ads[ad_id] = ad
            self._versions[ad_id] = version
        form = self._form()
        return topic, key, encode_ad(ad, form), [header_of(form)]

    def _delivery(self, kafka: Kafka) -> Outgoing:
        """A delivery state, or the word that the defaults hold again; the ad may not be there."""
        draw = self._random
        ad_id = draw.choice(self._ad_ids)
        known = self._delivery_versions.get(ad_id, -1)
        version = max(known + draw.choice((1, 1, 2, 0, -1)), 0)
        key, topic = encode_id(ad_id), kafka.topic(ADS_CONTROL)
        delivery = None
        if draw.random() < 0.9:
            delivery = Delivery(
                version,
                status=draw.choice(("active", "paused")),
                budget_left=draw.choice((None, 0.0, 2.5)),
                pacing=draw.choice((1.0, 0.5)),
                bid=draw.choice((0.25, 1.0, 4.0)),
                end_ms=draw.choice((None, 2**41)),
            )
        if version > known:
            self._deliveries[ad_id] = delivery
            self._delivery_versions[ad_id] = version
        if delivery is None:
            return topic, key, None, [(VERSION_HEADER, encode_id(version))]
        form = self._form()
        return topic, key, encode_delivery(delivery, form), [header_of(form)]

    def _event(self, kafka: Kafka) -> Outgoing:
        """An event, one a second time, one that is late, or an erasure."""
        draw = self._random
        user_id = draw.randrange(USERS_KNOWN)
        chance = draw.random()
        if chance < 0.1 and self.users[user_id]:
            event = draw.choice(list(self.users[user_id].values()))
            if draw.random() < 0.3:
                moved_ms = draw.choice((-5_000, 5_000))
                event = msgspec.structs.replace(event, time_ms=event.time_ms + moved_ms)
        elif chance < 0.11 and self._erased:
            # Written after the erasure, it is an event like others.
            user_id, event = draw.choice(self._erased)
        elif chance < 0.13:
            event = UserEvent(f"erase-{self._events}", None, ERASE, self._now_ms())
        else:
            late_ms = draw.choice((0, 0, 0, 60_000, 3_600_000))
            features = {"product": (f"p{draw.randrange(VALUES)}",)}
            event = UserEvent(
                f"e{self._events}", None, "buy", self._now_ms() - late_ms, 1.0, features
            )
        self._events += 1
        self._note(user_id, event)
        form = self._form()
        return (
            kafka.topic(USER_EVENTS),
            encode_id(user_id),
            encode_event(event, form),
            [header_of(form)],
        )

    def _note(self, user_id: int, event: UserEvent) -> None:
        events = self.users[user_id]
        if event.action == ERASE:
            self._erased += [(user_id, gone) for gone in events.values()]
            del self._erased[:-REMEMBERED]
            events.clear()
        elif event.event_id not in events or events[event.event_id].time_ms <= event.time_ms:
            events[event.event_id] = event

    def _unreadable(self, kafka: Kafka) -> Outgoing:
        """What is no record of its topic, in the format that it names."""
        draw = self._random
        topic, form = draw.choice(TOPICS), self._form()
        self._events += 1
        value = b"unreadable %d" % self._events
        self.dead[topic].add(value)
        return (
            kafka.topic(topic),
            encode_id(UNREADABLE_KEYS + self._events),
            value,
            [header_of(form)],
        )

    def _form(self) -> Format:
        return self._random.choice(list(FORMATS.values()))

    def _now_ms(self) -> int:
        """The time of the next event: each is a millisecond after the one before."""
        return self._start_ms + self._events

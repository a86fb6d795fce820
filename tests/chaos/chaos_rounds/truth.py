"""What was written, and what a worker must hold because of it.

The rules are written down here a second time, in the plainest way: the newest
version of an ad and of its delivery state wins, whatever comes late or twice;
an event counts once; an erasure takes every event that was written before it.
"""

from __future__ import annotations

import random
import time

from daemon.features import FeatureMap
from daemon.models import Models
from daemon.translate import AdColumns, delivery_batch
from gpuindex import Index, IndexSettings
from gpuindex.digest import AdHashes, ad_hashes
from model.value import ValueModel
from stream.codec import VERSION_HEADER, encode_ad, encode_delivery, encode_event, encode_id
from stream.publish import Outgoing
from stream.records import ERASE, Ad, AdChange, ControlChange, Delivery, Rule, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

ADS_KNOWN = 400
USERS_KNOWN = 60
VALUES = 50
# Far from the end of what a history holds, in any number of rounds that is run.
EVENTS_KEPT = 16_384

NO_MODELS = Models(retriever=None, ranker=None, value=ValueModel(1.0, 1.0, 0.0), encoder=None)


class Truth:
    """A world of ads and users that is written to Kafka burst by burst.

    Attributes:
        ads: the living ones by id.
        users: the events of each by event id.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.ads: dict[int, Ad] = {}
        self._versions: dict[int, int] = {}
        self._deliveries: dict[int, Delivery | None] = {}
        self._delivery_versions: dict[int, int] = {}
        self.users: dict[int, dict[str, UserEvent]] = {n: {} for n in range(USERS_KNOWN)}
        self._events = 0
        self._start_ms = time.time_ns() // 1_000_000

    def burst(self, kafka: Kafka, records: int) -> list[Outgoing]:
        """The next records; from now on they are part of the truth.

        To write them all again, in the same order, changes nothing: so a burst that failed half
        way is simply repeated.
        """
        written: list[Outgoing] = []
        for _ in range(records):
            kind = self._random.choices((self._ad, self._delivery, self._event), (3, 2, 5))[0]
            written.append(kind(kafka))
        return written

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
        ad_id = draw.randrange(ADS_KNOWN)
        known = self._versions.get(ad_id, 0)
        version = known + draw.choice((1, 1, 1, 2, 5, 0, -1))
        version = max(version, 0)
        key, topic = encode_id(ad_id), kafka.topic(ADS)
        news = version > known or ad_id not in self._versions
        if draw.random() < 0.2:
            if news:
                self.ads.pop(ad_id, None)
                self._versions[ad_id] = version
            return topic, key, None, [(VERSION_HEADER, encode_id(version))]
        ad = Ad(
            version=version,
            advertiser=f"a{draw.randrange(9)}",
            campaign=f"c{draw.randrange(30)}",
            features={
                "product": {f"p{draw.randrange(VALUES)}": draw.choice((1.0, 0.5, 0.25))},
                "kind": tuple({f"k{draw.randrange(VALUES)}" for _ in range(draw.randrange(4))}),
            },
            targeting={"geo": Rule(allow=("de", "at"))} if draw.random() < 0.2 else {},
        )
        if news:
            self.ads[ad_id] = ad
            self._versions[ad_id] = version
        return topic, key, encode_ad(ad), ()

    def _delivery(self, kafka: Kafka) -> Outgoing:
        draw = self._random
        ad_id = draw.randrange(ADS_KNOWN)
        known = self._delivery_versions.get(ad_id, -1)
        version = max(known + draw.choice((1, 1, 2, 0, -1)), 0)
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
        return kafka.topic(ADS_CONTROL), encode_id(ad_id), encode_delivery(delivery), ()

    def _event(self, kafka: Kafka) -> Outgoing:
        """An event, one a second time, one that is late, or an erasure."""
        draw = self._random
        user_id = draw.randrange(USERS_KNOWN)
        events = self.users[user_id]
        chance = draw.random()
        if chance < 0.1 and events:
            event = draw.choice(list(events.values()))
        elif chance < 0.12:
            event = UserEvent(f"erase-{self._events}", None, ERASE, self._now_ms())
            events.clear()
        else:
            late_ms = draw.choice((0, 0, 0, 60_000, 3_600_000))
            features = {"product": (f"p{draw.randrange(VALUES)}",)}
            event = UserEvent(
                f"e{self._events}", None, "buy", self._now_ms() - late_ms, 1.0, features
            )
            events[event.event_id] = event
        self._events += 1
        return kafka.topic(USER_EVENTS), encode_id(user_id), encode_event(event), ()

    def _now_ms(self) -> int:
        """The time of the next event: each is a millisecond after the one before."""
        return self._start_ms + self._events

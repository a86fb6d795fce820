"""Bodies: the values of `ads` and `user-events` as they are written.

Owns the two records whose written form is not the one that the rest of the code wants: an ad's
features come as lists or with weights, an event's ad id as a decimal string. The other topics'
values are `stream.records`' own types. `stream.codec` turns one into the other.
"""

from __future__ import annotations

from msgspec import Struct

from .records import Amount, DecimalId, Fraction, NonEmpty, Rule, TimeMs, Values, Version


class AdBody(Struct, forbid_unknown_fields=True, gc=False):
    """A value of `ads`: the whole ad."""

    version: Version
    advertiser: str = ""
    campaign: str = ""
    features: dict[str, Values | dict[str, Fraction]] = {}
    targeting: dict[str, Rule] = {}


class EventBody(Struct, forbid_unknown_fields=True, gc=False):
    """A value of `user-events`."""

    event_id: NonEmpty
    action: str
    time_ms: TimeMs
    ad_id: DecimalId | None = None
    value: Amount = 0.0
    features: dict[str, Values] = {}

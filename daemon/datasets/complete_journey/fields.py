"""The names that the data's columns have in Headwater, in the order that the models use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.schema import Schema

SCHEMA: Final = Schema.load(Path(__file__).with_name("schema.toml"))

(ACTION,) = SCHEMA.actions

PRODUCT_FIELDS: Final = SCHEMA.item_fields[: SCHEMA.item_fields.index("slot")]
"""What a product is, on ads and events alike."""

ITEM_FIELDS: Final = SCHEMA.item_fields
"""What an ad is: a product in a mailer slot, listed by some stores, some of which display it.

`reach` is the number of stores in half octaves, `display` the share that displays it in tenths.
"""

EVENT_FIELDS: Final = (*PRODUCT_FIELDS, "store", "quantity")

PROFILE_FIELDS: Final = SCHEMA.profile_fields

CONTEXT_FIELDS: Final = SCHEMA.context_fields
"""Where a visit is, and as `flyer` how many ads that store lists in that week, in half octaves."""

SLOTS: Final = {"D": 1, "F": 2, "H": 3, "L": 4}
"""Mailer slots and their codes: front page, back page, wrap front, wrap back."""

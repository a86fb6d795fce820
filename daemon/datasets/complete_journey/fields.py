"""The names that the data's columns have in Headwater, in the order that the models use."""

from __future__ import annotations

from typing import Final

ACTION: Final = "buy"

PRODUCT_FIELDS: Final = ("product", "type", "category", "department", "manufacturer", "brand")
"""What a product is, on ads and events alike."""

ITEM_FIELDS: Final = (*PRODUCT_FIELDS, "slot")
"""What an ad is: a product in a mailer slot."""

EVENT_FIELDS: Final = (*PRODUCT_FIELDS, "store", "quantity")

PROFILE_FIELDS: Final = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)

CONTEXT_FIELDS: Final = ("store",)

SLOTS: Final = {"D": 1, "F": 2, "H": 3, "L": 4}
"""Mailer slots and their codes: front page, back page, wrap front, wrap back."""

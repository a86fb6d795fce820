"""The recording: weeks of the data as records for Kafka.

Owns what an ad, its delivery state and a purchase look like on their topics, and which ads are
created, updated and deleted on a Monday. Promises records by `stream.records`, in order of event
time. When they are sent is `daemon.replay`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stream.codec import VERSION_HEADER, encode_ad, encode_delivery, encode_event, encode_id
from stream.publish import Outgoing
from stream.records import Ad, Delivery, UserEvent, Values
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from .fields import ACTION, ITEM_FIELDS, PRODUCT_FIELDS
from .tables import ads, events
from .weeks import FIRST_WEEK, LAST_WEEK, week_start_ms

# The data knows no bids; equal ones leave the order to the models.
BID: Final = 1.0

_NO_AD: Final = -1

_Codes = NDArray[np.int32]


class Recording:
    """The ads of some weeks, and every purchase up to their end."""

    def __init__(self, kafka: Kafka, from_week: int, to_week: int) -> None:
        """Read the data.

        Args:
            kafka: names the topics.
            from_week: the first week whose ads are recorded.
            to_week: the last one.

        Raises:
            ValueError: not weeks of the data, or in the wrong order.
            DatasetMissing: the data is not installed.
        """
        if not FIRST_WEEK <= from_week <= to_week <= LAST_WEEK:
            raise ValueError(
                f"weeks {from_week} to {to_week}: allowed are {FIRST_WEEK} to {LAST_WEEK}, in order"
            )
        self.first_ms = week_start_ms(FIRST_WEEK)
        self.start_ms = week_start_ms(from_week)
        self.end_ms = week_start_ms(to_week + 1)
        self._mondays = {week_start_ms(week): week for week in range(from_week, to_week + 1)}
        self._ads_topic, self._control_topic = kafka.topic(ADS), kafka.topic(ADS_CONTROL)
        self._ads = ads(from_week, to_week + 1)
        self._purchases = _Purchases(kafka.topic(USER_EVENTS), events(to_week + 1))

    def events(self, from_ms: int, until_ms: int) -> Iterator[Outgoing]:
        """The purchases from a time until before another, oldest first."""
        return self._purchases.records(self._purchases.rows(from_ms, until_ms))

    def ad_changes(self, time_ms: int) -> Iterator[Outgoing]:
        """What happens to ads at a time: nothing, except on the Mondays of the weeks.

        Then every ad of the week is written whole, with its flight, and one that was listed in the
        week before and is no longer, is deleted. All versions are the Monday's epoch ms.
        """
        week = self._mondays.get(time_ms)
        if week is None:
            return
        listed = self._ads.filter(pc.field("week") == week)
        for row in listed.to_pylist():
            key = encode_id(row["ad_id"])
            # The flight first: an ad without one would be live at once, and for ever.
            yield self._control_topic, key, encode_delivery(_delivery(row)), ()
            yield self._ads_topic, key, encode_ad(_ad(row)), ()
        before = self._ads.filter(pc.field("week") == week - 1)["ad_id"].to_numpy()
        version = [(VERSION_HEADER, encode_id(time_ms))]
        for ad_id in np.setdiff1d(before, listed["ad_id"].to_numpy()).tolist():
            # Its delivery state stays: that flight is over, and the next listing brings another.
            yield self._ads_topic, encode_id(ad_id), None, version


class _Purchases:
    """Purchases as records, built when asked for; what records share is prepared once."""

    def __init__(self, topic: str, table: pa.Table) -> None:
        self._topic = topic
        self._times_ms = table["time_ms"].to_numpy()
        products, self._product_features = _product_features(table)
        stores, self._store_values = _codes(table["store"])
        quantities, self._quantity_values = _codes(table["quantity"])
        self._columns = (
            table["user_id"].to_numpy(),
            self._times_ms,
            table["value"].to_numpy(),
            table["ad_id"].fill_null(_NO_AD).to_numpy(),
            products,
            stores,
            quantities,
        )

    def rows(self, from_ms: int, until_ms: int) -> range:
        """The rows of the purchases from a time until before another."""
        low, high = np.searchsorted(self._times_ms, [from_ms, until_ms]).tolist()
        return range(low, high)

    def records(self, rows: range) -> Iterator[Outgoing]:
        """Purchases as records; an event id is the row, which no other selection changes.

        Padded, because a history orders the events of one moment, as of one basket, by their ids:
        served in the order that was trained on.
        """
        columns = [column[rows.start : rows.stop].tolist() for column in self._columns]
        for row, user_id, time_ms, value, ad_id, product, store, quantity in zip(
            rows, *columns, strict=True
        ):
            features = {
                **self._product_features[product],
                "store": self._store_values[store],
                "quantity": self._quantity_values[quantity],
            }
            event = UserEvent(
                f"purchase-{row:08}",
                None if ad_id == _NO_AD else ad_id,
                ACTION,
                time_ms,
                value,
                features,
            )
            yield self._topic, encode_id(user_id), encode_event(event), ()


def _ad(row: dict[str, Any]) -> Ad:
    features = {field: (row[field],) for field in ITEM_FIELDS if row[field] is not None}
    return Ad(row["start_ms"], row["manufacturer"], f"mailer-{row['week']}", features)


def _delivery(row: dict[str, Any]) -> Delivery:
    return Delivery(row["start_ms"], bid=BID, start_ms=row["start_ms"], end_ms=row["end_ms"])


def _product_features(table: pa.Table) -> tuple[_Codes, dict[int, dict[str, Values]]]:
    """Each row's product code, and by code the product's known fields."""
    codes, _ = _codes(table["product"])
    distinct, first = np.unique(codes, return_index=True)
    rows = table.select(PRODUCT_FIELDS).take(first).to_pylist()
    features = [
        {field: (value,) for field, value in row.items() if value is not None} for row in rows
    ]
    return codes, dict(zip(distinct.tolist(), features, strict=True))


def _codes(column: pa.ChunkedArray) -> tuple[_Codes, list[Values]]:
    """Each row's code, and by code the one value that it stands for."""
    encoded = column.combine_chunks()
    return encoded.indices.to_numpy(), [(value,) for value in encoded.dictionary.to_pylist()]

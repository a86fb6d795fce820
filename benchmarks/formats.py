"""Decoding and encoding of the records, by format.

An ad with 30 features in 10 fields, half of them weighted, and an event with 5 features, read from
their messages as a worker reads them. Rates are records per CPU second of one thread, the best of
several turns, the formats in turns with each other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from daemon.rows import Rows
from stream.codec import decode_ad, decode_event, encode_ad, encode_event
from stream.formats import FORMATS, Format, header_of
from stream.records import Ad, Rule, UserEvent

from . import command

RECORDS = 5_000
TURNS = 7

AD = Ad(
    1_506_916_800_000,
    "69",
    "mailer-41",
    {
        f"field{field}": {
            f"value-{field}-{number}": 1.0 if field % 2 else 0.25 for number in range(3)
        }
        for field in range(10)
    },
    {"age": Rule(("25-34", "35-44"))},
)
EVENT = UserEvent(
    "purchase-17",
    10_297_431,
    "buy",
    1_506_816_800_000,
    3.99,
    {field: (f"a {field}",) for field in ("product", "brand", "type", "department", "store")},
)


def message(value: bytes, form: Format) -> Any:
    return SimpleNamespace(
        key=b"10297431", value=value, headers=[header_of(form)], partition=0, offset=0
    )


def works() -> dict[str, Callable[[], object]]:
    """What is measured, by axis."""
    calls: dict[str, Callable[[], object]] = {}
    for name, form in FORMATS.items():
        ad, event = message(encode_ad(AD, form), form), message(encode_event(EVENT, form), form)
        calls[f"ads_decoded_per_cpu_s/{name}"] = partial(decode_ad, ad)
        calls[f"events_decoded_per_cpu_s/{name}"] = partial(decode_event, event, EVENT.time_ms)
        calls[f"ads_encoded_per_cpu_s/{name}"] = partial(encode_ad, AD, form)
    return calls


def rate(call: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(RECORDS):
        call()
    return RECORDS / (time.process_time() - began)


def main() -> None:
    options = command.parser("formats", __doc__, quick="one turn").parse_args()
    # As in a worker: decoding makes containers and no cycles.
    gc.set_threshold(50_000, 20, 100)
    calls = works()
    turns = [
        {axis: rate(call) for axis, call in calls.items()}
        for _ in range(1 if options.quick else TURNS)
    ]
    rows = Rows()
    for axis in calls:
        rows.add(axis, max(turn[axis] for turn in turns), "records/s", n=RECORDS)
    for name, form in FORMATS.items():
        rows.add(f"ad_bytes/{name}", len(encode_ad(AD, form)), "bytes")
    for row in rows.rows:
        print(f"{row.axis:36s} {row.value:12,.0f} {row.unit}")
    if options.json:
        rows.write(options.json)


if __name__ == "__main__":
    main()

"""Every decoder under a coverage-guided fuzzer, for some minutes.

`python -m chaos_rounds.fuzz -max_total_time=300 [CORPUS]`: the options are
libFuzzer's, and an input that ends it is left in a file. The corpus may begin
with `tests/stream/golden`.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import atheris

with atheris.instrument_imports(include=["stream"]):
    from stream.codec import (
        decode_ad,
        decode_control,
        decode_event,
        decode_explain_body,
        decode_impression,
        decode_request,
        decode_request_body,
        decode_response,
    )
    from stream.errors import Rejected, RequestRejected
    from stream.formats import FORMATS, header_of

NOW_MS = 1_764_000_000_000
KEYS = (b"1364", b"_clock", b"", b"01")


def decode(raw: bytes) -> None:
    """Read bytes as every record in one format; only a rejection may come of it."""
    if len(raw) < 2:
        return
    form = list(FORMATS.values())[raw[0] % len(FORMATS)]
    key, value = KEYS[raw[1] % len(KEYS)], raw[2:]
    message: Any = SimpleNamespace(
        topic="t",
        partition=0,
        offset=0,
        timestamp=0,
        key=key,
        value=value,
        headers=[header_of(form)],
    )
    for attempt in (
        lambda: decode_ad(message),
        lambda: decode_control(message),
        lambda: decode_event(message, NOW_MS),
        lambda: decode_request(key, value, form=form),
        lambda: decode_request_body(value, form=form),
        lambda: decode_explain_body(value),
        lambda: decode_response(value, form),
        lambda: decode_impression(value, form),
    ):
        try:
            attempt()
        except (Rejected, RequestRejected):
            continue


if __name__ == "__main__":
    atheris.Setup(sys.argv, decode)
    atheris.Fuzz()

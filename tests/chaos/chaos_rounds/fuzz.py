"""Every decoder under a coverage-guided fuzzer, for some minutes.

`python -m chaos_rounds.fuzz -max_total_time=300 [CORPUS]`: the options are
libFuzzer's, and an input that ends it is left in a file. The corpus may begin
with `tests/stream/golden`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

import atheris

with atheris.instrument_imports(
    include=["stream", "daemon.settings", "daemon.datasets.mapping", "model.schema"]
):
    from daemon import settings
    from daemon.datasets import mapping
    from stream.checkpoints import CheckpointUnreadable, join, read_checkpoint, read_mark
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
    from stream.directory import decode_listing
    from stream.errors import Rejected, RequestRejected
    from stream.formats import FORMATS, Format, header_of

NOW_MS = 1_764_000_000_000
KEYS = (b"1364", b"_clock", b"", b"01", b"1364/1", b"_next")
FORMS = list(FORMATS.values())
# Files are read by their path.
FILE = NamedTemporaryFile(suffix=".toml")  # noqa: SIM115 -- it lives as long as the process


def decode(raw: bytes) -> None:
    """Read bytes as one kind of record, in one format; only its own error may come of it."""
    if len(raw) < 3:
        return
    kind, form, key = raw[0] % len(KINDS), FORMS[raw[1] % len(FORMS)], KEYS[raw[2] % len(KEYS)]
    try:
        KINDS[kind](key, raw[3:], form)
    except (Rejected, RequestRejected, CheckpointUnreadable, settings.ConfigurationError):
        return


def message(key: bytes, value: bytes, form: Format) -> Any:
    """A record as it comes from Kafka."""
    return SimpleNamespace(
        topic="t",
        partition=0,
        offset=0,
        timestamp=0,
        key=key,
        value=value,
        headers=[header_of(form)],
    )


def file_of(value: bytes) -> Path:
    """A file that holds these bytes."""
    FILE.seek(0)
    FILE.write(value)
    FILE.truncate()
    FILE.flush()
    return Path(FILE.name)


KINDS: tuple[Callable[[bytes, bytes, Format], object], ...] = (
    lambda key, value, form: decode_ad(message(key, value, form)),
    lambda key, value, form: decode_control(message(key, value, form)),
    lambda key, value, form: decode_event(message(key, value, form), NOW_MS),
    lambda key, value, form: decode_request(key, value, form=form),
    lambda _, value, form: decode_request_body(value, form=form),
    lambda _, value, __: decode_explain_body(value),
    lambda _, value, form: decode_response(value, form),
    lambda _, value, form: decode_impression(value, form),
    lambda key, value, _: join([read_checkpoint(key, value)[2]]),
    lambda _, value, __: read_mark(value),
    lambda _, value, __: decode_listing(value),
    lambda _, value, __: settings.load(file_of(value)),
    lambda _, value, __: mapping.load(file_of(value)),
)


if __name__ == "__main__":
    atheris.Setup(sys.argv, decode)
    atheris.Fuzz()

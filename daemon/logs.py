"""Log lines: events with fields, on stderr, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
import time

import structlog

REPEAT_S = 10.0


class _Repeats(logging.Filter):
    """Lets each message of a library through once in REPEAT_S, with how often it came between.

    While a broker is away its client says the same hundreds of times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg))
        shown_s, held_back = self._seen.get(key, (-REPEAT_S, 0))
        now_s = time.monotonic()
        if now_s - shown_s < REPEAT_S:
            self._seen[key] = (shown_s, held_back + 1)
            return False
        self._seen[key] = (now_s, 0)
        if held_back:
            record.msg = f"{record.msg} (and {held_back} times more)"
        return True


def configure_logging(least: str, log_format: str = "console") -> None:
    """Send this process's events, and those of the libraries, through one format to stderr.

    Args:
        least: the least severe level that is logged.
        log_format: "console" or "json".
    """
    level = logging.getLevelNamesMapping()[least.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        rendered: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendered = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    handler.addFilter(_Repeats())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)

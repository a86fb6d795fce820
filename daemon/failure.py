"""What could not be done, for a person to read, and the exit code that says it to programs."""

from __future__ import annotations

import traceback

from aiokafka.errors import KafkaConnectionError
from rich.console import Console
from rich.markup import escape

from stream.errors import BrokerUnavailable, StreamError, TopicsDiffer

from .settings import ConfigurationError


class Failed(Exception):
    """Ends the verb with exit code 1; the message says what happened and what to do."""


EXPECTED = (ConfigurationError, StreamError, Failed)


def report(error: BaseException) -> int:
    """Say on stderr what went wrong; return the exit code: 2 configuration, 1 anything else.

    What is expected is one message, never a traceback.
    """
    console = Console(stderr=True, highlight=False)
    match error:
        case ConfigurationError() | TopicsDiffer():
            console.print(f"[red]configuration:[/red] {escape(str(error))}", soft_wrap=True)
            return 2
        case BrokerUnavailable(__cause__=KafkaConnectionError()):
            address, _, _ = str(error).partition(": ")
            text = (
                f"no Kafka at {address} (kafka.bootstrap); start one with `headwater broker start`,"
                " or set HEADWATER_KAFKA__BOOTSTRAP"
            )
            console.print(f"[red]failed:[/red] {escape(text)}", soft_wrap=True)
        case StreamError() | Failed():
            console.print(f"[red]failed:[/red] {escape(str(error))}", soft_wrap=True)
        case _:
            traceback.print_exception(error)
    return 1

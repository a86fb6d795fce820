"""The command line: `headwater <verb>`.

Owns the root of the verbs and the exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Each verb lives in `daemon.commands`.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from stream.errors import StreamError

from .commands import ad, broker, demo, dlq, explain, replay, serve, status, topics, train, verify
from .failure import Failed
from .logs import configure_logging
from .settings import ConfigurationError

app = typer.Typer(
    name="headwater",
    help="Live ad retrieval and ranking: Kafka in, ranked ads out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(broker.app, name="broker")
app.add_typer(topics.app, name="topics")
app.add_typer(dlq.app, name="dlq")
app.command("train")(train.train)
app.command("serve")(serve.serve)
app.command("replay")(replay.replay)
app.command("status")(status.status)
app.command("ad")(ad.ad)
app.command("explain")(explain.explain)
app.command("verify")(verify.verify)
app.command("demo")(demo.demo)


def main() -> None:
    """Run a verb; an expected failure is one message on stderr, never a traceback."""
    console = Console(stderr=True, highlight=False)
    # Verbs print for people; what goes wrong on the way is an event on stderr.
    configure_logging("warning")
    try:
        app()
    except ConfigurationError as error:
        console.print(f"[red]configuration:[/red] {error}", soft_wrap=True)
        sys.exit(2)
    except (StreamError, Failed) as error:
        console.print(f"[red]failed:[/red] {error}", soft_wrap=True)
        sys.exit(1)

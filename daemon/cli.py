"""The command line: `headwater <verb>`.

Owns the root of the verbs and the exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Each verb lives in `daemon.commands`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from monitoring.build import installed_version

from .commands import (
    ablate,
    ad,
    broker,
    demo,
    dlq,
    evaluate,
    explain,
    model,
    replay,
    serve,
    status,
    topics,
    train,
    user,
    verify,
)
from .commands.output import say
from .failure import EXPECTED, report
from .logs import configure_logging

# What typer makes of Ctrl-C, as shells do: 128 and the number of SIGINT.
INTERRUPTED = 130

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
app.add_typer(model.app, name="model")
app.add_typer(user.app, name="user")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("ablate")(ablate.ablate)
app.command("serve")(serve.serve)
app.command("replay")(replay.replay)
app.command("status")(status.status)
app.command("ad")(ad.ad)
app.command("explain")(explain.explain)
app.command("verify")(verify.verify)
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"headwater {installed_version('headwater')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options of no verb."""


def main() -> None:
    """Run a verb; an expected failure is one message on stderr, never a traceback."""
    # Verbs print for people; what goes wrong on the way is an event on stderr.
    configure_logging("warning")
    try:
        app()
    except EXPECTED as error:
        sys.exit(report(error))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("interrupted", err=True)
        raise

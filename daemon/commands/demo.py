"""`headwater demo`: the whole of it on real data, told on screen."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..failure import Failed
from . import options


def demo(
    json_file: options.Figures = None,
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end.")] = False,
    began: Annotated[
        float | None,
        typer.Option(help="Unix time at which set-up began; it counts as part of the run."),
    ] = None,
    bootstrap: options.Bootstrap = None,
    state_dir: Annotated[
        Path, typer.Option(help="Where the checkpoints and Kafka's jars are kept.")
    ] = Path(".headwater"),
) -> None:
    """Replay real weeks through Kafka, train, serve, kill, measure; print a table of figures."""
    # Imported here: torch takes seconds that other verbs need not wait.
    from ..datasets.complete_journey import DatasetMissing
    from ..demo.story import Options, Story

    console = Console(highlight=False)
    began_s = time.time() if began is None else began
    story = Story(Options(state_dir, bootstrap, keep, began_s), console)

    async def tell() -> None:
        # Ended as by Ctrl-C: every part that was started is stopped on the way out.
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await story.tell()

    try:
        asyncio.run(tell())
    except DatasetMissing as error:
        raise Failed(str(error)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Failed("interrupted; what it had started is stopped") from None
    console.print()
    console.print(story.rows.table())
    console.print(
        '\nA worker of your own, on this data or on yours: "Run it" in README.md, docs/data.md'
    )
    if json_file is not None:
        story.rows.write(json_file)

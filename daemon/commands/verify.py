"""`headwater verify`: whether workers hold the same ads, and those that the topics say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .. import environment
from ..client import WorkerUnreachable
from ..failure import Failed
from . import options
from .output import say

if TYPE_CHECKING:
    from ..verification import Finding

SHOWN_ADS = 20


def verify(
    urls: Annotated[
        list[str] | None, typer.Argument(help="Workers, by the address of their HTTP.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", help="How long to wait for workers to be at the same offsets.", min=0
        ),
    ] = 5.0,
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Compare workers with the topics and with each other; exit code 1 when ads differ.

    An index is built from `ads` and `ads-control` up to a worker's offsets, with the models of the
    configuration, and held against the worker's own. Workers at the same offsets are compared with
    each other, and the topics are then read once for all of them.
    """
    settings = options.settings(config, assignments, bootstrap, prefix)
    environment.prepare(settings.worker)
    # Imported here: the index and the models take seconds that other verbs need not wait.
    from ..verification import verified

    try:
        findings = asyncio.run(verified(urls or [options.url_of(settings)], wait_s, settings))
    except WorkerUnreachable as error:
        raise Failed(str(error)) from None
    if as_json:
        say(json.dumps([finding.as_json() for finding in findings]))
    else:
        _print(findings)
    if any(finding.verdict.differences for finding in findings):
        raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("worker", "url", "epoch", "ads", "digest", "as the topics say"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        verdict = finding.verdict
        outcome = "yes"
        if verdict.differences:
            outcome = f"no: {len(verdict.differences)} ads differ"
        if verdict.changed_since:
            outcome += f", {verdict.changed_since} changed meanwhile"
        digest = verdict.digest
        table.add_row(
            finding.worker,
            finding.url,
            str(digest.epoch),
            f"{digest.ads:,}",
            f"{digest.states} {digest.embeddings}",
            outcome,
        )
    console = Console(highlight=False)
    console.print(table)
    for finding in findings:
        for difference in finding.verdict.differences[:SHOWN_ADS]:
            console.print(f"{finding.worker}: ad {difference.ad_id}: {difference.what}")

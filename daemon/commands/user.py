"""`headwater user`: what is kept of a user, and erasing it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..failure import Failed
from . import options, worker_http
from .output import show

app = typer.Typer(no_args_is_help=True, help="What is kept of a user.")

# Of a history on a screen.
NEWEST = 10

UserId = Annotated[str, typer.Argument(help="The user's id.")]


@app.command("show")
def show_user(
    user_id: UserId,
    whole: Annotated[bool, typer.Option("--all", help="Show every event.")] = False,
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Show the user's history; any worker passes the question on to the one that has it."""
    at = options.worker_url(url, config, assignments)
    user = worker_http.get(at, f"/v1/users/{user_id}")
    show(user if as_json else dict(_brief(user, whole)), as_json)


@app.command("erase")
def erase_user(
    user_id: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask at a terminal.")] = False,
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Erase the user for good: what came before now never counts again, whatever is replayed."""
    at = options.worker_url(url, config, assignments)
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"erase user {user_id} for good?", abort=True, err=True)
    erased = worker_http.delete(at, f"/v1/users/{user_id}")
    show(erased, as_json)
    if not erased["gone"]:
        raise Failed("the erasure is written, and not applied yet; ask again to see it done")


def _brief(user: Mapping[str, Any], whole: bool) -> Iterator[tuple[str, Any]]:
    """A user for a screen: one line an event, the newest last."""
    events = user["events"]
    yield from ((name, value) for name, value in user.items() if name != "events")
    yield "events", len(events)
    shown = events if whole else events[-NEWEST:]
    if len(shown) < len(events):
        yield "shown", f"the newest {len(shown)}; --all shows every one"
    for number, event in enumerate(shown, start=len(events) - len(shown) + 1):
        when = datetime.fromtimestamp(event["time_ms"] / 1e3, UTC).isoformat(" ", "seconds")
        features = ", ".join(f"{name}={'|'.join(of)}" for name, of in event["features"].items())
        yield f"{number}", f"{when} {event['action']} {event['value']:g} {features}"

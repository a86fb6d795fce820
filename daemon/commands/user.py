"""`headwater user`: what is kept of a user, and erasing it."""

from __future__ import annotations

from typing import Annotated

import typer

from ..failure import Failed
from . import options, worker_http
from .output import show

app = typer.Typer(no_args_is_help=True, help="What is kept of a user.")

UserId = Annotated[str, typer.Argument(help="The user's id.")]


@app.command("show")
def show_user(
    user_id: UserId,
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Show the user's history; any worker passes the question on to the one that has it."""
    at = options.worker_url(url, config, assignments)
    show(worker_http.get(at, f"/v1/users/{user_id}"), as_json)


@app.command("erase")
def erase_user(
    user_id: UserId,
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Erase the user for good: what came before now never counts again, whatever is replayed."""
    at = options.worker_url(url, config, assignments)
    erased = worker_http.delete(at, f"/v1/users/{user_id}")
    show(erased, as_json)
    if not erased["gone"]:
        raise Failed("the erasure is written, and not applied yet; ask again to see it done")

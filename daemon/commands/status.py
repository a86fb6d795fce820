"""`headwater status`: what a running worker says of itself."""

from __future__ import annotations

import typer

from . import options, worker_http
from .output import show


def status(url: options.Url = options.DEFAULT_URL, as_json: options.Json = False) -> None:
    """Ask a worker for its status; exit code 1 when it is not ready."""
    body = worker_http.get(url, "/v1/status")
    show(body, as_json)
    if not body["ready"]:
        raise typer.Exit(1)

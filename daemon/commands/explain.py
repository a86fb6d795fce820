"""`headwater explain`: what an ad is to a request, rule by rule and part by part."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from . import options, worker_http
from .output import show


def explain(
    ad_id: Annotated[str, typer.Argument(help="The ad's id.")],
    user_id: Annotated[str | None, typer.Option(help="The user's id.")] = None,
    request: Annotated[
        typer.FileText | None,
        typer.Option(help="A file with a score-request in JSON; - reads it from stdin."),
    ] = None,
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Ask a worker what one ad is to a request: served or why not, and its score by parts."""
    body = {"request_id": "explain", **_read(request)}
    if user_id is not None:
        body["user_id"] = user_id
    if "user_id" not in body:
        raise typer.BadParameter("give --user-id, or a --request that has one")
    at = options.worker_url(url, config, assignments)
    show(worker_http.post(at, "/v1/explain", {**body, "ad_id": ad_id}), as_json)


def _read(request: typer.FileText | None) -> dict[str, Any]:
    if request is None:
        return {}
    try:
        body = json.load(request)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--request") from None
    if not isinstance(body, dict):
        raise typer.BadParameter("not a JSON object", param_hint="--request")
    return body

"""`headwater ad`: whether an ad can be served, and why not."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options, worker_http
from .output import show


def ad(
    ad_id: Annotated[str, typer.Argument(help="The ad's id.")],
    url: options.Url = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Ask a worker about one ad."""
    at = options.worker_url(url, config, assignments)
    show(worker_http.get(at, f"/v1/ads/{ad_id}"), as_json)

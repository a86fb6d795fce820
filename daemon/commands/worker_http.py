"""Asking a running worker from the command line."""

from __future__ import annotations

import asyncio
from typing import Any

from ..client import WorkerClient, WorkerUnreachable
from ..failure import Failed


def get(url: str, path: str) -> dict[str, Any]:
    """GET a JSON object from a worker.

    Raises:
        Failed: no worker answers there, or it answers with an error.
    """
    try:
        body = asyncio.run(_get(url, path))
    except WorkerUnreachable as error:
        raise Failed(str(error)) from None
    if "error" in body:
        raise Failed(f"{url}{path}: {body['error']['message']}")
    return body


async def _get(url: str, path: str) -> dict[str, Any]:
    async with WorkerClient(url) as client:
        return await client.get(path)

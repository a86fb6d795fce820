"""Asking a running worker over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from .failure import Failed

TIMEOUT_S = 10.0


def get(url: str, path: str) -> dict[str, Any]:
    """GET a JSON object from a worker.

    Raises:
        Failed: no worker answers there, or it answers with an error.
    """
    return asyncio.run(_get(url.rstrip("/") + path))


async def _get(url: str) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            body: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Failed(f"{url}: {error or 'no answer'}; is the worker running there?") from None
    if "error" in body:
        raise Failed(f"{url}: {body['error']['message']}")
    return body

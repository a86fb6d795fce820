"""Asking a running worker from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..client import WorkerClient, WorkerUnreachable
from ..failure import Failed


def get(url: str, path: str) -> dict[str, Any]:
    """GET a JSON object from a worker.

    Raises:
        Failed: no worker answers there, or it answers with an error.
    """
    return _answer(url, path, lambda client: client.get(path))


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST a JSON object to a worker.

    Raises:
        Failed: as `get`.
    """
    return _answer(url, path, lambda client: client.post(path, body))


def delete(url: str, path: str) -> dict[str, Any]:
    """DELETE on a worker, which answers with a JSON object.

    Raises:
        Failed: as `get`.
    """
    return _answer(url, path, lambda client: client.delete(path))


def _answer(
    url: str, path: str, ask: Callable[[WorkerClient], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    async def answer() -> dict[str, Any]:
        async with WorkerClient(url) as client:
            return await ask(client)

    try:
        body = asyncio.run(answer())
    except WorkerUnreachable as error:
        raise Failed(str(error)) from None
    if "error" in body:
        raise Failed(f"{url}{path}: {body['error']['message']}")
    return body

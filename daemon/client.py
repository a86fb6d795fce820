"""A client of a worker's HTTP interface."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 60.0


class WorkerUnreachable(Exception):
    """No worker answers at the address; the message says which."""


class WorkerClient:
    """Asks one worker; keeps its connection."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> WorkerClient:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()

    def move(self, url: str) -> None:
        """Ask the worker at another address from now on."""
        self.url = url.rstrip("/")

    async def get(self, path: str) -> dict[str, Any]:
        """GET a JSON object, an error object included."""
        return self._object(await self._ask("GET", path))

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST a JSON object and read the one that answers, an error object included."""
        return self._object(await self._ask("POST", path, json.dumps(body).encode()))

    async def delete(self, path: str) -> dict[str, Any]:
        """DELETE, answered with a JSON object, an error object included."""
        return self._object(await self._ask("DELETE", path))

    async def text(self, path: str) -> str:
        """GET a page as text."""
        return (await self._ask("GET", path)).decode()

    async def metric(self, name: str, **labels: str) -> float:
        """What a sample of the worker's metrics is now; 0 if there is none of these labels yet."""
        families = text_string_to_metric_families(await self.text("/metrics"))
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and s.labels == labels)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        assert self._session is not None, "use the client in a with block"
        try:
            async with self._session.request(method, self.url + path, data=body) as answer:
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            # Of a connection that was not made, what the system says, without aiohttp's own words.
            told = error.strerror if isinstance(error, OSError) else str(error)
            reason = told or type(error).__name__
            raise WorkerUnreachable(f"{self.url}: {reason}; is a worker running there?") from None

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(body)
        except ValueError:
            raise WorkerUnreachable(f"{self.url}: answers, but not as a worker does") from None
        if not isinstance(parsed, dict):
            raise WorkerUnreachable(f"{self.url}: answers, but not as a worker does")
        return parsed

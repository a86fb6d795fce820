"""Whether workers hold the same ads, and those that the topics say.

Owns asking them at equal offsets and reading the topics as few times as that allows. How two states
are compared is `replica`'s part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from . import models
from .client import WorkerClient
from .digests import Digest
from .failure import Failed
from .models import Models
from .replica import Replica, Verdict, compare
from .settings import ConfigurationError, Settings

RETRY_S = 0.2


@dataclass(frozen=True)
class Finding:
    """What was found out about one worker."""

    worker: str
    url: str
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        digest = self.verdict.digest
        return {
            "worker": self.worker,
            "url": self.url,
            "epoch": digest.epoch,
            "offsets": digest.offsets,
            "ads": digest.ads,
            "states": digest.states,
            "embeddings": digest.embeddings,
            "changed_since": self.verdict.changed_since,
            "differences": [
                {"ad_id": str(difference.ad_id), "what": difference.what}
                for difference in self.verdict.differences
            ],
        }


class Worker:
    """A running worker that is asked for its digest."""

    def __init__(self, client: WorkerClient, columns: dict[str, str]) -> None:
        self._client = client
        self._columns = columns
        self.id = ""

    async def digest(self, listed: Collection[int] = ()) -> Digest:
        """Its digest now.

        Raises:
            Failed: it answers with an error.
            ConfigurationError: it serves with other models than those configured here.
        """
        path = "/v1/digest"
        if listed:
            path += "?parts=" + ",".join(map(str, listed))
        body = await self._client.get(path)
        if "error" in body:
            raise Failed(f"{self._client.url}{path}: {body['error']['message']}")
        if body["models"] != self._columns:
            raise ConfigurationError(
                f"{self._client.url} serves with {body['models']}, and here {self._columns} are "
                "configured; name its configuration by --config"
            )
        self.id = body["worker"]
        return Digest.read(body)


async def verified(urls: Sequence[str], wait_s: float, settings: Settings) -> list[Finding]:
    """Compare workers with the topics, and with each other where their offsets are equal.

    Args:
        urls: of their HTTP.
        wait_s: how long to wait for equal offsets.
        settings: the topics, and the models that the workers serve with.

    Raises:
        WorkerUnreachable, Failed: a worker does not answer, or with an error.
        ConfigurationError: one serves with other models.
    """
    loaded = models.load(settings)
    async with AsyncExitStack() as stack:
        workers = [
            Worker(await stack.enter_async_context(WorkerClient(url)), loaded.columns)
            for url in urls
        ]
        digests = await _at_equal_offsets(workers, wait_s)
        findings: list[Finding] = []
        known: list[tuple[Digest, Verdict]] = []
        for worker, url, digest in zip(workers, urls, digests, strict=True):
            verdict = next((v for d, v in known if _same(d, digest)), None)
            if verdict is None:
                verdict = await _against_topics(worker, settings, loaded)
                known.append((verdict.digest, verdict))
            findings.append(Finding(worker.id, url, verdict))
        return findings


async def _at_equal_offsets(workers: Sequence[Worker], wait_s: float) -> list[Digest]:
    """A digest of each worker, if possible all at the same offsets."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        digests = list(await asyncio.gather(*(worker.digest() for worker in workers)))
        equal = all(digest.offsets == digests[0].offsets for digest in digests)
        if equal or loop.time() >= until:
            return digests
        await asyncio.sleep(RETRY_S)


def _same(one: Digest, other: Digest) -> bool:
    return (one.offsets, one.states, one.embeddings) == (
        other.offsets,
        other.states,
        other.embeddings,
    )


async def _against_topics(worker: Worker, settings: Settings, loaded: Models) -> Verdict:
    async with Replica(settings, loaded) as replica:
        return await compare(worker.digest, replica)

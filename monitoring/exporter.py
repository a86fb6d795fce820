"""The HTTP face of monitoring: the scrape and the three probes.

Owns the handlers of `/metrics`, `/livez`, `/readyz` and `/startupz`. Which
address they listen on, and which other routes share it, is the daemon's.
"""

import asyncio

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from .health import Readiness
from .metrics import REGISTRY


def routes(readiness: Readiness) -> list[web.RouteDef]:
    """The routes that report this process, to be added to an application.

    `/metrics` speaks OpenMetrics to a scraper that asks for it, and
    Prometheus' text format otherwise. A probe answers 200 or 503; its body is
    one line, and with `?verbose` `/readyz` lists every condition.
    """

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: rendering takes milliseconds that the loop does not have.
        body = await asyncio.to_thread(encode, REGISTRY)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def livez(_: web.Request) -> web.Response:
        failure = readiness.failure
        return _probe(failure is None, failure or "alive")

    async def startupz(_: web.Request) -> web.Response:
        started = readiness.started
        return _probe(started, "started" if started else "warming up")

    async def readyz(request: web.Request) -> web.Response:
        reasons = readiness.reasons()
        if "verbose" in request.query:
            met = [f"[+] {name}" for name in readiness.conditions if name not in reasons]
            unmet = [f"[-] {name}: {reason}" for name, reason in reasons.items()]
            return _probe(not reasons, "\n".join(met + unmet))
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return _probe(not reasons, told or "ready")

    return [
        web.get("/metrics", metrics),
        web.get("/livez", livez),
        web.get("/readyz", readyz),
        web.get("/startupz", startupz),
    ]


def _probe(passed: bool, text: str) -> web.Response:
    return web.Response(status=200 if passed else 503, text=text + "\n")

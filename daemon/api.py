"""The worker's HTTP interface.

Owns the routes of `/v1`, the status codes, and the shape of an error. Promises the same answer to
the same request as `score-requests` gives. `/metrics` and the health routes are monitoring's.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from monitoring import exporter
from monitoring.metrics import REQUESTS, UNKNOWN_KEYS
from stream.codec import (
    decode_explain_body,
    decode_request_body,
    encode_explanation,
    encode_response,
    parse_id,
)
from stream.errors import RequestRejected
from stream.formats import JSON, by_content_type
from stream.records import ErrorBody, Explanation, ScoreRequest

from .clock import wall_ms
from .digests import parse_parts
from .forwarding import ANSWER_SLACK_S, ANSWER_TIMEOUT_S, waited_ms
from .requests import failed, flagged
from .scoring import RequestRefused

if TYPE_CHECKING:
    from .worker import Worker

log = structlog.get_logger(__name__)

# Errors that the caller caused are 400; the others say whether trying again can help.
STATUS_OF_CODE = {
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded": HTTPStatus.TOO_MANY_REQUESTS,
    "deadline": HTTPStatus.GATEWAY_TIMEOUT,
    "stale": HTTPStatus.GATEWAY_TIMEOUT,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "not_found": HTTPStatus.NOT_FOUND,
    "not_owner": HTTPStatus.MISDIRECTED_REQUEST,
}
# An operator's command waits out a take-over.
USER_DEADLINE_MS = "30000"
# A request holds at most 4,096 features; longer bodies are a mistake.
MAX_BODY_BYTES = 1 << 20


def application(worker: Worker) -> web.Application:
    """Build the HTTP application of one worker."""
    routes = Routes(worker)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_json])
    app.add_routes(
        [
            web.post("/v1/score", routes.score),
            web.post("/v1/explain", routes.explain),
            web.get("/v1/status", routes.status),
            web.get("/v1/ads/{ad_id}", routes.ad),
            web.get("/v1/digest", routes.digest),
            web.get("/v1/users/{user_id}", routes.user),
            web.delete("/v1/users/{user_id}", routes.erase),
        ]
    )
    app.add_routes(exporter.routes(worker.readiness))
    return app


class Routes:
    """Handlers of `/v1`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def score(self, http: web.Request) -> web.Response:
        """`POST /v1/score`: a score-request in, a score-response out, in the same format."""
        received_ms = wall_ms() - waited_ms(http)
        # Clients that name no content type, or their form's, have always meant JSON.
        form = by_content_type(http.content_type) or JSON
        unknown: Counter[str] = Counter()
        try:
            request = decode_request_body(await http.read(), unknown, form)
        except RequestRejected as rejected:
            REQUESTS.labels(rejected.code).inc()
            return error(rejected.code, rejected.message)
        for topic, keys in unknown.items():
            UNKNOWN_KEYS.labels(topic).inc(keys)
        match await self._elsewhere(http, request, received_ms):
            case web.Response() as forwarded:
                return forwarded
            case ErrorBody() as refusal:
                REQUESTS.labels(refusal.code).inc()
                response = failed(request, refusal)
            case None:
                response = await self._worker.desk.answer(request, received_ms)
        status = HTTPStatus.OK
        if response.error is not None:
            status = STATUS_OF_CODE.get(response.error.code, HTTPStatus.BAD_REQUEST)
        body = encode_response(flagged(response, bool(unknown)), form)
        return web.Response(body=body, status=status, content_type=form.content_type)

    async def explain(self, http: web.Request) -> web.Response:
        """`POST /v1/explain`: a score-request and an ad id in, the ad's part in it out."""
        received_ms = wall_ms() - waited_ms(http)
        try:
            request, ad_id = decode_explain_body(await http.read())
        except RequestRejected as rejected:
            return error(rejected.code, rejected.message)
        answer: Explanation | ErrorBody
        match await self._elsewhere(http, request, received_ms):
            case web.Response() as forwarded:
                return forwarded
            case ErrorBody() as refusal:
                answer = refusal
            case None:
                answer = await self._worker.desk.explain(request, ad_id, received_ms)
        if isinstance(answer, ErrorBody):
            return error(answer.code, answer.message)
        return web.Response(body=encode_explanation(answer), content_type="application/json")

    async def _elsewhere(
        self, http: web.Request, request: ScoreRequest, received_ms: int
    ) -> web.Response | ErrorBody | None:
        """What answers a request for a user of another worker; None if the user is here."""
        patience_s = self._worker.desk.patience_for_user_s(request, received_ms)
        timeless = request.deadline_ms is None
        answer_s = ANSWER_TIMEOUT_S if timeless else patience_s + ANSWER_SLACK_S
        return await self._worker.elsewhere(http, request.user_id, patience_s, answer_s)

    async def status(self, _: web.Request) -> web.Response:
        """`GET /v1/status`: readiness, clock, epoch, offsets, lag, models, memory."""
        return web.json_response(self._worker.status())

    async def ad(self, http: web.Request) -> web.Response:
        """`GET /v1/ads/{ad_id}`: whether the ad is there, and whether and why not served."""
        try:
            ad_id = parse_id(http.match_info["ad_id"])
        except ValueError as invalid:
            return error("invalid_field", str(invalid))
        return web.json_response(self._worker.ad(ad_id))

    async def user(self, http: web.Request) -> web.Response:
        """`GET /v1/users/{user_id}`: what the owner keeps of a user."""
        return await self._about_user(http, lambda user_id, _: self._worker.user(user_id))

    async def erase(self, http: web.Request) -> web.Response:
        """`DELETE /v1/users/{user_id}`: 200 when the user is gone, 202 when that is certain."""
        return await self._about_user(http, self._worker.erase)

    async def _about_user(
        self, http: web.Request, answer: Callable[[int, float], Awaitable[dict[str, Any]]]
    ) -> web.Response:
        """Let the user's owner answer, on whichever worker that is, until the caller's deadline."""
        try:
            user_id = parse_id(http.match_info["user_id"])
            deadline_ms = parse_id(http.query.get("deadline_ms", USER_DEADLINE_MS))
        except ValueError as invalid:
            return error("invalid_field", str(invalid))
        until_s = time.monotonic() + (deadline_ms - waited_ms(http)) / 1e3
        patience_s = until_s - time.monotonic()
        match await self._worker.elsewhere(http, user_id, patience_s, patience_s + ANSWER_SLACK_S):
            case web.Response() as forwarded:
                return forwarded
            case ErrorBody(code=code, message=message):
                return error(code, message)
        try:
            body = await answer(user_id, until_s - time.monotonic())
        except RequestRefused as refused:
            return error(refused.code, refused.message)
        return web.json_response(
            body, status=HTTPStatus.OK if body.get("gone", True) else HTTPStatus.ACCEPTED
        )

    async def digest(self, http: web.Request) -> web.Response:
        """`GET /v1/digest`: a digest of all ads, `?parts=1,2` to list those of some parts."""
        try:
            listed = parse_parts(http.query.get("parts", ""))
        except ValueError as invalid:
            return error("invalid_field", str(invalid))
        return web.json_response(await self._worker.digest(listed))


def error(code: str, message: str) -> web.Response:
    """An error as every route gives it: `{error: {code, message}}`."""
    return web.json_response(
        {"error": {"code": code, "message": message}},
        status=STATUS_OF_CODE.get(code, HTTPStatus.BAD_REQUEST),
    )


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestRefused as refused:
        return error(refused.code, refused.message)
    except web.HTTPException as raised:
        body = json.dumps({"error": {"code": _code(raised), "message": raised.reason}})
        return web.Response(
            text=body, status=raised.status, content_type="application/json", headers=_kept(raised)
        )
    except Exception:
        log.exception("http_failed", path=request.path)
        return error("internal", "the worker failed; its log has the reason")


def _code(raised: web.HTTPException) -> str:
    return HTTPStatus(raised.status).phrase.lower().replace(" ", "_")


def _kept(raised: web.HTTPException) -> dict[str, str]:
    """Headers that belong to the status, such as Allow."""
    return {name: value for name, value in raised.headers.items() if name == "Allow"}

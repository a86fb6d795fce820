"""Every HTTP error has its status and the same body, also those that no route gives."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from daemon import api
from daemon.forwarding import WAITED_HEADER
from daemon.settings import Settings
from daemon.worker import Worker
from stream.records import ScoreRequest, ScoreResponse


class Broken(Worker):
    """A worker that cannot tell its status."""

    def status(self) -> dict[str, Any]:
        raise OSError("disk on fire")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of a worker that has not opened its index yet."""
    with socket.socket() as listener:
        worker = Broken(Settings(worker={"state_dir": tmp_path}), listener)
        async with TestClient(TestServer(api.application(worker))) as client:
            yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/score", b"{", 400, "undecodable"),
        ("GET", "/v1/ads/x", b"", 400, "invalid_field"),
        ("GET", "/v1/users/1?deadline_ms=soon", b"", 400, "invalid_field"),
        ("DELETE", "/v1/users/1", b"", 503, "not_ready"),
        ("GET", "/v1/nothing", b"", 404, "not_found"),
        ("GET", "/v1/score", b"", 405, "method_not_allowed"),
        ("POST", "/v1/score", b" " * (api.MAX_BODY_BYTES + 1), 413, "request_entity_too_large"),
        ("GET", "/v1/status", b"", 500, "internal"),
        ("GET", "/v1/ads/1", b"", 503, "not_ready"),
        ("POST", "/v1/score", b'{"request_id": "r", "user_id": "1"}', 503, "not_ready"),
    ],
)
async def test_an_error_has_its_status_and_the_one_body(
    client: TestClient[Any, Any], method: str, path: str, body: bytes, status: int, code: str
) -> None:
    answer = await client.request(method, path, data=body)
    assert answer.status == status
    error = (await answer.json())["error"]
    assert set(error) == {"code", "message"}
    assert error["code"] == code
    assert error["message"]
    assert "fire" not in error["message"]


class Desk:
    """Answers everybody with nothing."""

    def patience_for_user_s(self, *_: Any) -> float:
        return 0.0

    async def answer(self, request: ScoreRequest, _received_ms: int) -> ScoreResponse:
        return ScoreResponse(request_id=request.request_id, user_id=request.user_id)


async def test_a_key_that_is_ignored_is_told(
    client: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo of an optional key would otherwise change the answer without a word."""
    monkeypatch.setattr(Worker, "desk", Desk())
    body = {"request_id": "r", "user_id": "1", "k": 1}
    for more, flags in (({}, []), ({"frequency_capp": {"most": 3}}, ["unknown_keys"])):
        answer = await client.post("/v1/score", json={**body, **more})
        assert (await answer.json())["flags"] == flags


async def test_a_method_that_is_not_allowed_is_told_what_is(client: TestClient[Any, Any]) -> None:
    assert (await client.get("/v1/score")).headers["Allow"] == "POST"


@pytest.mark.parametrize("waited", ["", "-1", "x", "9" * 400, "9" * 5_000, "\u0663"])
async def test_a_waited_time_that_is_none_counts_as_none(
    client: TestClient[Any, Any], waited: str
) -> None:
    """Anybody can send the header."""
    answer = await client.delete("/v1/users/1", headers={WAITED_HEADER: waited})
    assert (await answer.json())["error"]["code"] == "not_ready"

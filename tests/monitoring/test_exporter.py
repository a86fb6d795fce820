"""The routes, asked over HTTP as a scraper and a probe would."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from monitoring.exporter import routes
from monitoring.health import Readiness


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(("index_caught_up", "models_warm"))


@pytest.fixture
async def client(readiness: Readiness) -> AsyncIterator[TestClient]:
    app = web.Application()
    app.add_routes(routes(readiness))
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_scrape_is_valid_prometheus_text(client: TestClient) -> None:
    response = await client.get("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(await response.text())}
    assert {"headwater_ad_freshness_seconds", "headwater_request_seconds"} <= names
    assert "process_resident_memory_bytes" in names


async def test_a_scraper_that_asks_gets_openmetrics(client: TestClient) -> None:
    accept = "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"
    response = await client.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    text = await response.text()
    assert text.endswith("# EOF\n")
    assert "headwater_records_applied" in {f.name for f in openmetrics_families(text)}


async def test_probes_of_a_new_worker_pass_only_liveness(client: TestClient) -> None:
    assert (await client.get("/livez")).status == 200
    assert (await client.get("/startupz")).status == 503
    assert (await client.get("/readyz")).status == 503


async def test_probes_of_a_ready_worker_all_pass(client: TestClient, readiness: Readiness) -> None:
    readiness.mark_started()
    for condition in readiness.conditions:
        readiness.meet(condition)
    for path in ("/livez", "/startupz", "/readyz"):
        assert (await client.get(path)).status == 200


async def test_a_failed_worker_is_not_alive_and_says_why(
    client: TestClient, readiness: Readiness
) -> None:
    readiness.mark_failed("intake thread died")
    response = await client.get("/livez")
    assert response.status == 503
    assert "intake thread died" in await response.text()


async def test_verbose_readiness_lists_every_condition_with_its_reason(
    client: TestClient, readiness: Readiness
) -> None:
    readiness.mark_started()
    readiness.meet("models_warm")
    readiness.unmeet("index_caught_up", "ads is 40 offsets behind")
    response = await client.get("/readyz?verbose")
    assert (await response.text()).splitlines() == [
        "[+] models_warm",
        "[-] index_caught_up: ads is 40 offsets behind",
    ]

"""Health, liveness, readiness, and request ids."""

import asyncio
import gc

import pytest

from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.errors import Unavailable
from support_service.platform.access.timings import AccessTimings
from support_service.timeline.source_health import FAILURES_TO_OPEN
from support_service.timings import ApiTimings
from tests.support.calls import eventually, expect_json, expect_problem, form, open_case, read_case, upload
from tests.support.scrape import Scrape
from tests.support.service import own_client, service_of
from tests.support.timings import patient_timings

client = own_client

SOURCES = dict.fromkeys(UPSTREAM_SERVICES, "off")  # they have no URL
ALL_OK = {"database": "ok", "cache": "ok", "events": "ok", "storage": "ok", "access": "ok"}
ALL_OK |= {"sources": SOURCES}


async def test_health_and_readiness_of_a_running_service(shared_client):
    """Clients of the previous service rely on the first response."""
    for path in ("/health", "/livez"):
        assert await expect_json(shared_client.get(path)) == {"status": "ok"}
    assert await expect_json(shared_client.get("/readyz")) == {"status": "ready", **ALL_OK}


@pytest.mark.usefixtures("upstream_services")
async def test_readiness_does_not_need_the_sources(orders, client):
    """A source is reported while the circuit breaker rejects calls to it, and as off while on-call switches it off."""
    orders.fail_with(503)
    case = await open_case(client, context=[{"type": "order", "orderId": "o-1"}])
    for _ in range(FAILURES_TO_OPEN):
        await read_case(client, case, includeTimeline="true")
    async with client.get("/readyz") as response:
        ready = await response.json()
    assert (response.status, ready["sources"]) == (
        200,
        dict.fromkeys(UPSTREAM_SERVICES, "ok") | {"order": "source_unavailable"},
    )
    override = {"duration": "5m", "reason": "it is being repaired"}
    async with client.put("/support/overrides/payment", json=override) as response:
        assert response.status < 300, await response.text()
    assert (await expect_json(client.get("/readyz")))["sources"]["payment"] == "off"


async def test_metrics_have_the_readiness_and_each_dependency(make_client, monkeypatch):
    """They follow without a request to `/readyz`, so that a replica that never becomes ready is seen."""
    client = await make_client(timings=patient_timings(api=ApiTimings(dependency_interval=0.02)))
    metrics = Scrape(service_of(client).metrics)

    def is_exposed(ready, **changes):
        expected = {**ALL_OK, **SOURCES, **changes}
        del expected["sources"]
        statuses = {each["dependency"]: each["status"] for each in metrics.label_sets("support_dependency_status")}
        return metrics.value("support_replica_ready") == ready and statuses == expected

    await eventually(lambda: is_exposed(1))

    async def refuse():
        raise Unavailable("database_connections_exhausted", "There are too many.")

    monkeypatch.setattr(service_of(client).database, "ping", refuse)
    await eventually(lambda: is_exposed(0, database="database_connections_exhausted"))


async def test_request_id_of_the_client_is_returned(shared_client):
    """It is in the headers of every response, and in problems. One that could corrupt a log is replaced."""
    for path in ("/health", "/support/cases", "/metrics"):
        async with shared_client.get(path, headers={"X-Request-Id": "abc-1.2_3"}) as response:
            assert response.headers["X-Request-Id"] == "abc-1.2_3"
    problem = shared_client.get("/support/cases/nobody", headers={"X-Request-Id": "abc"})
    assert (await expect_problem(problem, 404, "case_not_found"))["requestId"] == "abc"
    given, unsafe = [], ["", "a b", "x" * 65, "é", '"><script>']
    for sent in unsafe * 2:
        async with shared_client.get("/health", headers={"X-Request-Id": sent}) as response:
            given.append(response.headers["X-Request-Id"])
    assert len({*given} - {*unsafe}) == len(given)
    assert all(identifier.isalnum() for identifier in given)


async def test_stopping_service_is_not_ready(client):
    """The response is 503, and still reports each part."""
    service_of(client).readiness.accepting = False
    assert await expect_json(client.get("/readyz"), 503) == {"status": "stopping", **ALL_OK}


async def test_readiness_reports_the_storage(client, monkeypatch):
    """A store that refuses uploads is reported until it accepts one; the replica stays ready."""
    case = await open_case(client)

    async def refuse(*_arguments, **_options):
        raise Unavailable("storage_unavailable", "It is out of reach.")

    with monkeypatch.context() as patched:
        patched.setattr(LocalAttachmentStorage, "put", refuse)
        path = f"/support/cases/{case['id']}/attachments"
        await expect_problem(client.post(path, data=form(b"a")), 503, "storage_unavailable")
    async with client.get("/readyz") as response:
        assert (response.status, (await response.json())["storage"]) == (200, "storage_unavailable")
    await upload(client, case)
    async with client.get("/readyz") as response:
        assert (response.status, (await response.json())["storage"]) == (200, "ok")


async def test_readiness_reports_the_tokens(make_client, tmp_path):
    """A token file that can't be read any more is reported; the tokens read before stay valid."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"tokens": []}')
    client = await make_client(
        SUPPORT_AUTH="token",
        SUPPORT_TOKENS_FILE=str(tokens),
        timings=patient_timings(access=AccessTimings(token_file_check_interval=0.01)),
    )
    tokens.write_text("not JSON")

    async def access(expected):
        async with client.get("/readyz") as response:
            return (response.status, (await response.json())["access"]) == (200, expected)

    await eventually(lambda: access("tokens_unavailable"))
    tokens.write_text('{"tokens": [] }')
    await eventually(lambda: access("ok"))


@pytest.mark.parametrize("fails", [True, False])
async def test_late_end_of_a_database_ping_is_not_reported_as_an_error(make_client, monkeypatch, fails):
    """A ping that timed out may fail later, and asyncio must not report that its exception was never retrieved."""
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
    client = await make_client(timings=patient_timings(api=ApiTimings(ping_timeout=0.0)))

    async def hang():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise Unavailable("database_unavailable", "It is out of reach.") from None
            raise

    monkeypatch.setattr(service_of(client).database, "ping", hang)
    async with client.get("/readyz") as response:
        assert (response.status, (await response.json())["database"]) == (503, "database_unavailable")
    readiness = service_of(client).readiness
    await eventually(readiness.ping_task.done)
    await asyncio.sleep(0)
    readiness.ping_task = None
    gc.collect(1)  # of all that is new
    assert reports == []

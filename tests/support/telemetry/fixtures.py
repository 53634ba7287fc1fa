"""Fixtures of the telemetry tests: backends, and a workload that uses every instrument."""

import aiohttp
import pytest

from tests.support.backends import VictoriaMetrics
from tests.support.calls import add_message, expect_problem, form, open_case, read_timeline, refresh, upload
from tests.support.process import PATIENT_SOURCES, running
from tests.support.servers import MissingServer, free_port
from tests.support.telemetry.otlp_receiver import OtlpReceiver
from tests.support.upstream import url_variables


@pytest.fixture(scope="session")
def victoria_metrics(servers, tmp_path_factory):
    """The VictoriaMetrics of the session, an OTLP backend."""
    try:
        server = VictoriaMetrics(tmp_path_factory.mktemp("victoria"))
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield server
    server.close()


@pytest.fixture
async def otlp_receiver():
    otlp_receiver = OtlpReceiver()
    await otlp_receiver.open()
    yield otlp_receiver
    await otlp_receiver.close()


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
async def session(port):
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


@pytest.fixture
def serve(processes, port, migrated_folder, sources):
    """Run `support-service serve` with all upstream services for the length of a block."""

    def serve(**variables):
        defaults = {"SUPPORT_PORT": str(port), "SUPPORT_ACCESS_LOG": "0", **PATIENT_SOURCES}
        return running("serve", cwd=migrated_folder, **defaults | url_variables(sources) | variables)

    return serve


@pytest.fixture
def workload(orders, payments, shipments):
    """Use every feature: cases, messages, statuses, uploads, timelines, rejected requests and a failing source."""

    async def workload(client):
        orders.add("ORD-1", "placed", "paid")
        payments.add("PAY-1", "ORD-1")
        shipments.add("SHP-1", "ORD-1")
        for channel in ("email", "chat", "carrier pigeon"):
            first = {"authorType": "customer", "message": "Where is it?"}
            context = [{"type": "order", "orderId": "ORD-1"}]
            case = await open_case(client, channel=channel, context=context, initialMessage=first)
            await add_message(client, case)
            await read_timeline(client, case)
            await read_timeline(client, case)
            payments.fail_with(503)
            await refresh(client, case)
            payments.heal()
            await upload(client, case)
            path = f"/support/cases/{case['id']}"
            wrong = {"X-Checksum-Sha256": "0" * 64}
            refused = await client.post(f"{path}/attachments", data=form(b"x"), headers=wrong)
            await expect_problem(refused, 422, "checksum_mismatch")
            await expect_problem(await client.post(f"{path}/attachments", data=b"x"), 415, "unsupported_type")
            await (await client.post(f"{path}/status", params={"status": "pending"})).read()
        await (await client.post(f"{path}/close", json={})).read()
        await expect_problem(await client.get("/support/cases/nobody"), 404, "case_not_found")
        await expect_problem(await client.get("/nowhere"), 404, "route_not_found")

    return workload

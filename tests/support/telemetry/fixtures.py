"""What telemetry's tests share: backends, and a workload that touches every instrument."""

import aiohttp
import pytest

from tests.support.backends import VictoriaMetrics
from tests.support.calls import add_message, form, open_case, read_timeline, refresh, refused, upload
from tests.support.process import running
from tests.support.servers import MissingServer, free_port
from tests.support.telemetry.otlp_receiver import Sink


@pytest.fixture(scope="session")
def victoria(servers, tmp_path_factory):
    """The session's OTLP backend."""
    try:
        server = VictoriaMetrics(tmp_path_factory.mktemp("victoria"))
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield server
    server.close()


@pytest.fixture
async def sink():
    """An OTLP receiver in this process."""
    sink = Sink()
    await sink.open()
    yield sink
    await sink.close()


@pytest.fixture
def port():
    """A free port."""
    return free_port()


@pytest.fixture
async def session(port):
    """A client of a service that runs as a process."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


@pytest.fixture
def serve(processes, port, tmp_path, orders, payments, shipments):
    """Run `support-service serve` with all three upstream services for the length of a block."""

    def serve(**variables):
        known = {
            "SUPPORT_PORT": str(port),
            "SUPPORT_ORDER_URL": orders.url,
            "SUPPORT_PAYMENT_URL": payments.url,
            "SUPPORT_FULFILLMENT_URL": shipments.url,
            "SUPPORT_ACCESS_LOG": "0",
            "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60",
            "SUPPORT_TIMELINE_DEADLINE": "60",
        }
        return running("serve", cwd=tmp_path, **known | variables)

    return serve


@pytest.fixture
def work(orders, payments, shipments):
    """Something of everything: cases, messages, statuses, uploads, timelines, refusals and a source that fails."""

    async def work(client):
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
            await refused(await client.post(f"{path}/attachments", data=form(b"")), 422, "attachment_empty")
            await refused(await client.post(f"{path}/attachments", data=b"x"), 415, "unsupported_type")
            await (await client.post(f"{path}/status", params={"status": "pending"})).read()
        await (await client.post(f"{path}/close", json={})).read()
        await refused(await client.get("/support/cases/nobody"), 404, "case_not_found")
        await refused(await client.get("/nowhere"), 404, "route_not_found")

    return work

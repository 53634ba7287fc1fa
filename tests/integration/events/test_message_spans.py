"""With traces, each event that is published, processed or delivered has a span in the trace of what caused it."""

import json

import pytest
import sqlalchemy as sa

from support_service.events.broker.base import BrokerError
from support_service.platform.database.tables import webhook_deliveries
from support_service.platform.telemetry.telemetry import TelemetryTimings
from tests.support.calls import add_message, eventually, expect_json, open_case
from tests.support.events.fixtures import outbox_is_empty, send_inbound, shipment_event, wait_for_events
from tests.support.events.webhooks import SECRET
from tests.support.service import service_of
from tests.support.timings import patient_timings

# The OpenTelemetry instrumentation inherits from aiohttp's Application, which aiohttp warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class _Instrumented:DeprecationWarning")
TRACE, CALLER, SENDER = "a" * 32, "b" * 16, "c" * 16
IN_TRACE = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
OTHER_TRACE = "d" * 32


@pytest.fixture
def environment(environment, endpoint, otlp_receiver, monkeypatch):
    for name in ("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    hook = {"name": "crm", "url": str(endpoint.server.make_url("/hook?key=s3cr3t")), "secret": SECRET}
    return environment | {"SUPPORT_WEBHOOKS": json.dumps([hook]), "OTEL_TRACES_EXPORTER": "otlp"}


@pytest.fixture
def timings():
    return patient_timings(telemetry=TelemetryTimings(shutdown_timeout=60.0))


async def spans_of(client, receiver):
    """Stop the service, which exports the last spans; return the spans of messages by name, and all by id."""
    await eventually(lambda: outbox_is_empty(service_of(client).database))
    await client.close()
    found = {}
    for span in receiver.spans:
        if "messaging.system" in span.attributes:
            found.setdefault(span.name, []).append(span)
    return found, {span.id: span for span in receiver.spans}


def attributes(*values):
    names = ("system", "destination.name", "operation.name", "operation.type", "message.id")
    return {f"messaging.{name}": value for name, value in zip(names, values, strict=True)}


async def test_publication_and_delivery_are_producers_in_the_trace_of_the_request(
    client, stream, endpoint, otlp_receiver
):
    """The receiver of the webhook can continue the trace; no span has the address of the webhook."""
    body = {"subject": "A", "channel": "email"}
    await (await client.post("/support/cases", json=body, headers=IN_TRACE)).read()
    (event,) = await wait_for_events(stream, 1)
    delivered = sa.select(webhook_deliveries.c.seq).where(webhook_deliveries.c.state == "delivered")
    await eventually(lambda: service_of(client).database.fetch_now(delivered))
    found, spans = await spans_of(client, otlp_receiver)
    (published,), (delivered,) = found["publish support.events"], found["deliver crm"]
    for span in (published, delivered):
        assert (span.kind, span.trace) == ("producer", TRACE)
        assert spans[span.parent].name == "POST /support/cases"
        assert event["traceparent"] == f"00-{TRACE}-{span.parent}-01"
    assert published.attributes == attributes("redis", "support.events", "publish", "send", event["id"])
    assert delivered.attributes == attributes("webhook", "crm", "deliver", "send", event["id"])
    assert endpoint.sent[0][0]["traceparent"] == f"00-{TRACE}-{delivered.id}-01"
    assert not [span for span in otlp_receiver.spans if "s3cr3t" in str(span.attributes)]


async def test_inbound_event_is_a_consumer_span_that_its_effects_continue(client, stream, otlp_receiver):
    """Operations of the database are its children, and what it changes is published in its trace.

    One without a trace begins one. Without a trace, a publication has no span: its trace would have one.
    """
    await open_case(client, context=[{"type": "order", "orderId": "order-456"}])
    await send_inbound(stream, shipment_event() | {"traceparent": f"00-{OTHER_TRACE}-{SENDER}-01"})
    _, caused = await wait_for_events(stream, 2)
    await send_inbound(stream, shipment_event("e-2"))
    await wait_for_events(stream, 3)
    event = {"specversion": "1.0", "id": "1", "type": "t"}
    await service_of(client).broker.publish("support.other", [json.dumps(event)], max_length=9)
    found, _ = await spans_of(client, otlp_receiver)
    assert "publish support.other" not in found
    processed, other = found["process support.inbound"]
    assert (processed.kind, processed.trace, processed.parent) == ("consumer", OTHER_TRACE, SENDER)
    assert (other.parent, other.trace != OTHER_TRACE) == ("", True)
    group = {"messaging.consumer.group.name": "support-service"}
    assert processed.attributes == attributes("redis", "support.inbound", "process", "process", "e-1") | group
    assert caused["traceparent"] == f"00-{OTHER_TRACE}-{processed.id}-01"
    children = {span.attributes.get("db.operation.name") for span in otlp_receiver.spans if span.parent == processed.id}
    assert "TRANSACTION" in children
    assert [span.parent for span in found["publish support.events"]][1] == processed.id


async def test_inbound_event_of_a_request_is_published_and_processed_in_its_trace(client, stream, otlp_receiver):
    await open_case(client, context=[{"type": "order", "orderId": "order-456"}])
    await expect_json(client.post("/support/events", json=shipment_event(), headers=IN_TRACE), 202)
    await wait_for_events(stream, 2)
    found, _ = await spans_of(client, otlp_receiver)
    (published,), (processed,) = found["publish support.inbound"], found["process support.inbound"]
    assert {published.trace, processed.trace} == {TRACE}
    assert (published.kind, processed.kind) == ("producer", "consumer")


async def test_failures_are_marked_without_their_text(client, stream, endpoint, otlp_receiver):
    """A refused delivery has the status of the answer, and a refused publication the kind of the error."""
    endpoint.status = 503
    case = await open_case(client)
    await eventually(lambda: endpoint.sent)
    endpoint.status = 204
    (event,) = await wait_for_events(stream, 1)
    broker = service_of(client).broker
    await stream.set("support.other:fence", 9)
    with pytest.raises(BrokerError, match="newer fence"):
        await broker.publish("support.other", [json.dumps(event)], max_length=9, fence=1)
    await add_message(client, case)
    await wait_for_events(stream, 2)
    found, _ = await spans_of(client, otlp_receiver)
    assert found["deliver crm"][0].attributes["error.type"] == "503"
    (refused,) = found["publish support.other"]
    assert (refused.attributes["error.type"], refused.failed) == ("BrokerError", True)
    assert not any(span.failed for span in found["publish support.events"])

"""The standard variables of OpenTelemetry do what the specification says, in a service that runs as a process."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import SHUTDOWN_TIMEOUT, Metrics, build_resource
from support_service.telemetry.traces import create_tracing
from tests.support.calls import PATIENCE, eventually, logged, open_case
from tests.support.promql import ROOT
from tests.support.scrape import parse

NOWHERE = "http://127.0.0.1:9"  # nothing listens on `discard`


async def scraped(session):
    """What a scrape gives."""
    async with session.get("/metrics") as response:
        assert response.status == 200
        return parse((await response.text()).replace("# EOF", ""))


async def lived(serve, session, port, **variables):
    """Start, open a case, scrape and stop; gives the samples, what it printed and what it logged.

    The last export has all the time that it needs.
    """
    async with serve(module="tests.support.long_timeouts", PYTHONPATH=str(ROOT), **variables) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        await open_case(session)
        samples = await scraped(session)
        service.stop()
        status, out, log = await service.ended()
    assert status == 0, log
    return samples, out, logged(log)


@pytest.mark.parametrize("variables", [{"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
async def test_none(serve, session, port, sink, variables):
    """With `none`, or with the SDK disabled, a scrape is empty, nothing is exported and the service works."""
    everything = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    if "OTEL_SDK_DISABLED" in variables:
        everything |= {"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_TRACES_EXPORTER": "otlp"}
    samples, out, _ = await lived(serve, session, port, **everything | variables)
    assert (samples, out, sink.metrics, sink.spans) == ([], "", {}, [])


async def test_console(serve, session, port):
    """With `console` metrics are printed as JSON, the last of them at the stop, and a scrape is empty."""
    samples, out, _ = await lived(serve, session, port, OTEL_METRICS_EXPORTER="console")
    assert samples == []
    assert '"name": "support.ticket.created"' in out
    json.loads(out)


async def test_the_last_values_go_out_at_the_stop(serve, session, port, sink):
    """A stop exports what happened since the last time, under the name and the attributes that are configured."""
    samples, _, _ = await lived(
        serve,
        session,
        port,
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTEL_SERVICE_NAME="support-eu",
        OTEL_RESOURCE_ATTRIBUTES="service.version=9,team=blue,service.name=overruled",
    )
    assert samples == []
    who = sink.metrics["support.ticket.created"]
    assert (who["service.name"], who["service.version"], who["team"]) == ("support-eu", "9", "blue")
    assert len(who["service.instance.id"]) == 36
    assert (who["telemetry.sdk.name"], who["telemetry.sdk.language"]) == ("opentelemetry", "python")
    assert who["telemetry.sdk.version"]
    assert [span.attributes["http.route"] for span in sink.spans] == ["/support/cases"]
    assert sink.spans[0].resource == who


async def test_each_process_is_an_instance(serve, session, port, victoria):
    """Name, version and instance reach the OTLP backend as labels, and each process is an instance of its own."""
    query = 'support_ticket_created_total{service_name="instances",channel="email"}'
    variables = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": victoria.otlp}
    for number in (1, 2):
        await lived(serve, session, port, OTEL_SERVICE_NAME="instances", **variables)
        await eventually(lambda number=number: len(victoria.query(query)) == number)
    found = [labels for labels, value in victoria.query(query) if value == 1]
    assert len({labels["service_instance_id"] for labels in found}) == 2
    assert all(labels["service_version"] for labels in found)


async def test_both(serve, session, port, sink):
    """With two exporters each has everything."""
    samples, _, _ = await lived(
        serve, session, port, OTEL_METRICS_EXPORTER="prometheus,otlp", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url
    )
    assert ("support_ticket_created_total", {"channel": "email"}, 1) in samples
    assert {"support.ticket.created", "process.uptime", "db.client.operation.duration"} <= sink.metrics.keys()


async def test_a_wrong_exporter(serve):
    """An exporter that there is not stops the start with one line."""
    async with serve(OTEL_METRICS_EXPORTER="statsd") as service:
        status, out, errors = await service.ended()
    assert (status, out) == (2, "")
    assert errors.startswith("support-service: OTEL_METRICS_EXPORTER='statsd': ")
    assert len(errors.splitlines()) == 1


async def test_a_collector_out_of_reach(serve, session, port):
    """Without a collector every request is answered, the stop is in order, and the log says so once, not once a try."""
    variables = {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE,
        "OTEL_METRIC_EXPORT_INTERVAL": "50",
        "OTEL_METRIC_EXPORT_TIMEOUT": "50",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    async with serve(**variables) as service:
        await service.answers(f"http://127.0.0.1:{port}")

        async def two_seconds_later():  # by the service's own clock; meanwhile the exporters try again and again
            await open_case(session)
            samples = await scraped(session)
            return sum(value for name, _, value in samples if name == "support_event_loop_lag_seconds_count") >= 8

        await eventually(two_seconds_later, 6 * PATIENCE)
        service.stop()
        status, _, log = await service.ended()
    assert status == 0
    lines = logged(log)
    # Of metrics and of spans: why a try failed, that it was given up, and what was lost by that.
    assert 1 <= len([line for line in lines if line["logger"].startswith("opentelemetry")]) <= 6
    assert "Traceback" not in log
    assert {line["logger"] for line in lines} <= {"support_service.server"} | {
        line["logger"] for line in lines if line["logger"].startswith("opentelemetry")
    }


@pytest.mark.parametrize("propagators", ["foo", "b3"])
async def test_another_propagator(serve, session, port, propagators):
    """A propagator that there is not gives one warning, and the service works."""
    _, _, lines = await lived(serve, session, port, OTEL_PROPAGATORS=propagators)
    assert [line["message"] for line in lines if line["level"] == "WARNING"] == [
        f"OTEL_PROPAGATORS={propagators!r} is ignored: only W3C trace context is supported"
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("SUPPORT_REDIS_URL", "redis://:secret@host:abc/0"),
        ("SUPPORT_DATABASE_URL", "postgresql://127.0.0.1:9/x?sslmode=maybe"),
    ],
)
async def test_a_start_that_is_refused(serve, variable, value):
    """A value that a part breaks on only when it is made, or even imported, stops the start with one line too."""
    exporters = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}
    async with serve(**exporters, **{variable: value}) as service:
        status, _, errors = await service.ended()
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert "secret" not in errors


@pytest.fixture
async def silent():
    """The address of a collector that takes connections and never answers."""
    writers = []

    async def keep(_, writer):
        writers.append(writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in writers:
        writer.close()
    server.close()


@pytest.fixture
async def slow():
    """The address of a collector that takes longer to answer than a stop may wait."""
    release = asyncio.Event()

    async def wait(_):
        await release.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", wait)
    server = TestServer(app)
    await server.start_server()
    yield str(server.make_url(""))
    release.set()
    await server.close()


@pytest.mark.parametrize("collector", ["nowhere", "silent", "slow"])
async def test_a_collector_does_not_hold_up_the_stop(silent, slow, monkeypatch, collector):
    """Both exporters are left behind after STOP_WITHIN, whether their collector is gone, silent or slow."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", {"nowhere": NOWHERE, "silent": silent, "slow": slow}[collector])
    resource = build_resource()
    metrics, traces = Metrics(("otlp",), resource), create_tracing(("otlp",), resource)
    Instruments(metrics.meter)
    async with aiohttp.ClientSession(trace_configs=traces.of_clients()) as session:
        with pytest.raises(aiohttp.ClientConnectionError):  # the call is a span to export all the same
            await session.get(NOWHERE)
    async with asyncio.timeout(SHUTDOWN_TIMEOUT + 6):  # an exporter by itself takes 10 s to give up
        await asyncio.gather(asyncio.to_thread(metrics.close), asyncio.to_thread(traces.close))

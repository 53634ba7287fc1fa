"""The standard OpenTelemetry variables configure the exporters of a service process."""

import asyncio
import json

import aiohttp
import pytest

from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import SHUTDOWN_TIMEOUT, Metrics, build_resource
from support_service.platform.telemetry.telemetry import create_tracing
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case, parse_log
from tests.support.process import LONG_TIMEOUTS
from tests.support.scrape import parse

UNREACHABLE = "http://127.0.0.1:9"  # nothing listens on the port `discard`


async def scrape(session):
    async with session.get("/metrics") as response:
        return parse((await response.text()).replace("# EOF", ""))


def both_to(url):
    """Return the settings that export metrics and traces to a URL; metrics can be scraped, too."""
    metrics = {"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    return metrics | {"OTEL_TRACES_EXPORTER": "otlp"}


async def run_service(serve, session, port, **variables):
    """Start the service, open a case, scrape and stop; return the samples, stdout and the log.

    The last export has as much time as it needs.
    """
    async with serve(**LONG_TIMEOUTS, **variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        await open_case(session)
        samples = await scrape(session)
        service.stop()
        status, out, log = await service.wait_for_exit()
    assert status == 0, log
    return samples, out, parse_log(log)


async def test_disabled_telemetry_exports_nothing(serve, session, port, otlp_receiver):
    """Without the SDK a scrape is empty, nothing is exported, and the service works."""
    samples, out, _ = await run_service(serve, session, port, **both_to(otlp_receiver.url), OTEL_SDK_DISABLED="true")
    assert (samples, out, otlp_receiver.metrics, otlp_receiver.request_spans) == ([], "", {}, [])


async def test_console_exporter_prints_metrics_as_json(serve, session, port):
    """Metrics are printed as JSON, the last ones at the stop, and a scrape is empty."""
    samples, out, _ = await run_service(serve, session, port, OTEL_METRICS_EXPORTER="console")
    assert samples == []
    assert '"name": "support.ticket.created"' in out
    json.loads(out)


async def test_stop_exports_the_last_values(serve, session, port, otlp_receiver):
    """A stop exports what was measured since the last export, with the configured name and attributes.

    Of two exporters both get all metrics.
    """
    named = {
        "OTEL_SERVICE_NAME": "support-eu",
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=9,team=blue,service.name=overruled",
    }
    samples, _, _ = await run_service(serve, session, port, **both_to(otlp_receiver.url), **named)
    assert ("support_ticket_created_total", {"channel": "email"}, 1) in samples
    assert {"support.ticket.created", "process.uptime", "db.client.operation.duration"} <= otlp_receiver.metrics.keys()
    resource = otlp_receiver.metrics["support.ticket.created"]
    assert (resource["service.name"], resource["service.version"], resource["team"]) == ("support-eu", "9", "blue")
    assert len(resource["service.instance.id"]) == 36
    assert (resource["telemetry.sdk.name"], resource["telemetry.sdk.language"]) == ("opentelemetry", "python")
    assert resource["telemetry.sdk.version"]
    assert [span.attributes["http.route"] for span in otlp_receiver.request_spans] == ["/support/cases"]
    assert otlp_receiver.request_spans[0].resource == resource


@pytest.mark.long
async def test_each_process_is_a_separate_instance(serve, session, port, victoria_metrics):
    """Name, version and instance are labels in the OTLP backend, and each process is an instance."""
    query = 'support_ticket_created_total{service_name="instances",channel="email"}'
    variables = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": victoria_metrics.otlp}
    for number in (1, 2):
        await run_service(serve, session, port, OTEL_SERVICE_NAME="instances", **variables)
        await eventually(lambda number=number: len(victoria_metrics.query(query)) == number)
    found = [labels for labels, value in victoria_metrics.query(query) if value == 1]
    assert len({labels["service_instance_id"] for labels in found}) == 2
    assert all(labels["service_version"] for labels in found)


@pytest.mark.long
async def test_unreachable_collector_does_not_affect_the_service(serve, session, port):
    """Requests succeed, the stop is clean, and the log reports the failure once, not at each attempt."""
    often = ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_BSP_SCHEDULE_DELAY")
    variables = both_to(UNREACHABLE) | dict.fromkeys(often, "50") | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    async with serve(**variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")

        async def two_seconds_later():  # by the service's own clock; meanwhile the exporters retry
            await open_case(session)
            samples = await scrape(session)
            return sum(value for name, _, value in samples if name == "support_event_loop_lag_seconds_count") >= 8

        await eventually(two_seconds_later, 6 * GENEROUS_TIMEOUT)
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    lines = parse_log(log)
    # For metrics and for spans: why an attempt failed, that it was abandoned, and what was lost.
    assert 1 <= len([line for line in lines if line["logger"].startswith("opentelemetry")]) <= 6
    assert "Traceback" not in log
    assert all(line["logger"].startswith(("support_service.server", "opentelemetry")) for line in lines)


@pytest.fixture
async def silent_collector():
    """The address of a collector that accepts connections and never answers."""
    writers = []

    async def keep(_, writer):
        writers.append(writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in writers:
        writer.close()
    server.close()


async def test_stop_does_not_wait_for_a_collector(silent_collector, monkeypatch):
    """Both exporters are abandoned after SHUTDOWN_TIMEOUT if the collector is unreachable or silent."""
    resource, closing = build_resource(), []
    for url in (UNREACHABLE, silent_collector):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        metrics, traces = Metrics(("otlp",), resource), create_tracing(("otlp",), resource)
        Instruments(metrics.meter)
        async with aiohttp.ClientSession(trace_configs=traces.client_trace_configs()) as session:
            with pytest.raises(aiohttp.ClientConnectionError):  # the failed call still creates a span to export
                await session.get(UNREACHABLE)
        closing += [asyncio.to_thread(each.close) for each in (metrics, traces)]
    async with asyncio.timeout(SHUTDOWN_TIMEOUT + 6):  # an exporter alone gives up after 10 s
        await asyncio.gather(*closing)

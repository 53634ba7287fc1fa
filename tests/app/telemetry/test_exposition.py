"""The scrape: its series from the start on, its formats, and its limits on label values."""

import gzip
import re

import pytest
import pytest_asyncio
from observability.catalogue import INSTRUMENTS
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from support_service.api.dependency_status import DEPENDENCY_STATUS, REPLICA_READY
from support_service.attachments.maintenance.reconcile import ATTACHMENT_UNREPAIRED
from support_service.attachments.storage.base import S3_CALLS, S3_REPEATS
from support_service.attachments.uploader import COUNTED_CONTENT_TYPES
from support_service.core.domain.case_vocabulary import CHANNELS
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.events.webhook_sender import WEBHOOK_OVERDUE_AGE
from support_service.platform.access.callers import ACCESS_CALLERS
from support_service.platform.certificates import CERTIFICATE_EXPIRES
from support_service.platform.database.shared import DATABASE_NUMBER
from support_service.platform.telemetry.http import HTTP_CLIENT_DURATION
from support_service.platform.telemetry.stores import (
    REDIS_EVICTED_KEYS,
    REDIS_EVICTION_POLICY,
    REDIS_MEMORY,
    REDIS_MEMORY_LIMIT,
    REDIS_ROLE,
)
from support_service.timeline.source_client import SOURCE_OUTCOMES
from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_timeline, upload
from tests.support.scrape import Scrape, parse
from tests.support.service import service_of

FIRST = {
    name: [{label: value} for value in values]
    for name, label, values in (
        ("support_timeline_collect_seconds_count", "source", ("cache", "remote")),
        ("support_timeline_cache_events_total", "event", ("hit", "miss", "write", "invalidate", "error")),
        ("support_timeline_collection_failures_total", "stage", ("http", "cache", "cache_decode", "aggregate")),
        ("support_attachment_stored_total", "content_type", COUNTED_CONTENT_TYPES),
        ("support_ticket_created_total", "channel", (*CHANNELS, "other")),
        ("support_conversation_added_total", "author_type", ("agent", "customer", "bot")),
        ("support_ticket_status_changed_total", "status", ("open", "pending", "resolved", "closed")),
    )
} | {f"support_attachment_backlog_{unit}": [{}] for unit in ("bytes", "files")}
HTTP = "http_server_request_duration_seconds_count"


async def scrape(client, **headers):
    """Return the text and the content type of a scrape."""
    async with client.get("/metrics", headers=headers) as response:
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first_scrape(shared_client):
    return (await scrape(shared_client))[0]


@pytest.fixture
def client(first_scrape, shared_client):
    """A client of that service, for all tests that need no new one."""
    return shared_client


async def test_contract_series_are_zero_on_the_first_scrape(first_scrape):
    """The first scrape has exactly the contract's label sets, each with the value 0."""
    assert "http_server_request_duration_seconds" in first_scrape
    samples = parse(first_scrape)
    for name, wanted in FIRST.items():
        found = [(given, value) for sample, given, value in samples if sample == name]
        assert sorted(map(str, found)) == sorted(str((labels, 0.0)) for labels in wanted)


async def test_first_scrape_has_every_instrument(first_scrape):
    """Each is exposed with its meaning from the first scrape on, except metrics of jobs, tokens and other servers."""
    of_redis = [REDIS_EVICTION_POLICY, REDIS_ROLE, REDIS_EVICTED_KEYS, REDIS_MEMORY, REDIS_MEMORY_LIMIT]
    of_replicas = [REPLICA_READY, DEPENDENCY_STATUS, CERTIFICATE_EXPIRES, WEBHOOK_OVERDUE_AGE]
    others = [S3_CALLS, S3_REPEATS, ATTACHMENT_UNREPAIRED, HTTP_CLIENT_DURATION, ACCESS_CALLERS, DATABASE_NUMBER]
    assert {row for row in INSTRUMENTS if row.meaning not in first_scrape} == {*others, *of_redis, *of_replicas}
    services = [(one, two) for one in UPSTREAM_SERVICES for two in SOURCE_OUTCOMES]
    found = [given for sample, given, _ in parse(first_scrape) if sample == "support_timeline_source_seconds_count"]
    assert sorted((given["service"], given["outcome"]) for given in found) == sorted(services)


async def test_alert_threshold_is_a_bucket_of_every_latency_histogram(client):
    """2 s, the threshold of alerts, is a boundary of every histogram; the timeline's have its default timeouts too."""
    await open_case(client)
    samples = parse((await scrape(client))[0])
    for name in ("support_timeline_collect", "support_timeline_source", "http_server_request_duration"):
        edges = {given["le"] for sample, given, _ in samples if sample == f"{name}_seconds_bucket"}
        assert {"2.0", "+Inf", "0.025"} | ({"2.5", "3.0"} if "timeline" in name else set()) <= edges


async def test_collected_samples_are_those_of_a_rendered_scrape(client):
    """Other tests read the samples of `Scrape`, which renders nothing. Only volatile values differ."""
    await open_case(client)
    text, _ = await scrape(client)
    rendered, collected = parse(text), Scrape(service_of(client).metrics).samples()
    assert {(name, *sorted(labels.items())) for name, labels, _ in rendered} == {
        (name, *sorted(labels.items())) for name, labels, _ in collected
    }
    for name in ("support_ticket_created_total", "support_timeline_read_seconds_bucket", HTTP.replace("count", "sum")):
        assert [each for each in rendered if each[0] == name] == Scrape(service_of(client).metrics).samples(name)


async def test_requests_are_labelled_by_route_template(client, metric_changes):
    """A request counts by method, route and status, never by path; health checks and scrapes do not count."""
    case = await open_case(client)
    await read_timeline(client, case)
    await expect_problem(await client.get("/support/cases/nobody"), 404, "case_not_found")
    await expect_problem(await client.get("/nowhere/at/all"), 404, "route_not_found")
    for path in ("/metrics", "/health", "/livez", "/readyz"):
        await (await client.get(path)).read()
    get = {"http_request_method": "GET", "url_scheme": "http"}
    one_case = get | {"http_route": "/support/cases/{case_id}"}
    assert metric_changes.value(HTTP, **one_case, http_response_status_code="200") == 1
    assert metric_changes.value(HTTP, **one_case, http_response_status_code="404") == 1
    nowhere = {"http_request_method": "_OTHER", "http_route": "other", "url_scheme": "http"}
    assert metric_changes.value(HTTP, **nowhere, http_response_status_code="404") == 1
    assert metric_changes.total(HTTP) == 4


async def test_scheme_is_that_of_the_client(make_client):
    """A trusted proxy reports https; without one, or from another peer, it is http. Zero series have the public one."""
    labels = {"http_request_method": "GET", "http_route": "/support/cases", "http_response_status_code": "200"}
    for variables, expected in (
        ({"SUPPORT_TRUSTED_PROXIES": "127.0.0.1", "SUPPORT_PUBLIC_URL": "https://127.0.0.1"}, "https"),
        ({"SUPPORT_TRUSTED_PROXIES": "10.0.0.1"}, "http"),
    ):
        client = await make_client(**variables)
        metrics = Scrape(service_of(client).metrics)
        assert metrics.value(HTTP, **labels, url_scheme=expected) == 0
        await expect_json(client.get("/support/cases", headers={"X-Forwarded-Proto": "http, https"}))
        assert metrics.value(HTTP, **labels, url_scheme=expected) == 1
        assert metrics.total(HTTP) == 1


async def test_requests_of_the_probe_are_counted_apart(client, metric_changes):
    """By their User-Agent; health checks and scrapes are not counted."""
    name = "support_request_received_total"
    for agent in ("support-service-probe/1.0", "curl/8", "my support-service-probe/1.0"):
        await (await client.get("/support/cases", headers={"User-Agent": agent})).read()
    await (await client.get("/livez")).read()
    assert metric_changes.nonzero(name) == {"probe": 1, "other": 2}


async def test_values_chosen_by_clients_become_other(client, metric_changes):
    """Channels, content types, methods, paths and hosts that a client invents become `other` or no label."""
    metrics = Scrape(service_of(client).metrics)

    def series(names):
        return {(name, str(given)) for name, given, _ in metrics.samples() if name in names}

    names = {name for name, _, _ in metrics.samples() if not name.startswith("http")}  # others are first read later
    before = series(names)
    for number in range(5):
        case = await open_case(client, channel=f"channel-{number}", priority="low")
        await upload(client, case, content_type=f"made/up-{number}")
        await add_message(client, case)
        async with client.request(f"LOCK{number}" if number else "LOCK", f"/made/up/{number}") as response:
            assert response.status in (400, 404)
        headers = {"Host": f"host-{number}.example", "User-Agent": f"agent-{number}"}
        await (await client.get(f"/support/agents/agent-{number}/workload", headers=headers)).read()
    assert series(names) == before
    invented = re.compile(r"channel-\d|made/up|agent-\d|host-\d")
    assert not [given for _, given, _ in metrics.samples() if invented.search(str(given))]
    assert metric_changes.value("support_ticket_created_total", channel="other") == 5
    assert metric_changes.value("support_attachment_stored_total", content_type="other") == 5
    assert {given["http_request_method"] for given in metrics.nonzero_labels(HTTP)} <= {"GET", "POST", "_OTHER"}
    assert len(metric_changes.nonzero_labels(HTTP)) <= 6


async def test_openmetrics_is_served_when_preferred(client):
    """A scraper that prefers OpenMetrics gets a complete exposition in that format."""
    await open_case(client)
    text, content_type = await scrape(client, Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    names = {family.name for family in openmetrics(text)}
    assert names >= {"support_ticket_created", "support_timeline_collect_seconds"}
    assert (await scrape(client))[1].startswith("text/plain; version=")


async def test_compressed_scrape_equals_the_plain_scrape(client):
    """A scraper that accepts gzip gets the same series and values, except volatile ones."""
    await open_case(client)
    async with client.get("/metrics", headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as response:
        compressed = parse(gzip.decompress(await response.read()).decode())
    async with client.get("/metrics", headers={"Accept-Encoding": "identity"}) as response:
        assert "Accept-Encoding" in response.headers["Vary"]
        plain = parse(await response.text())
    assert [sample[:2] for sample in compressed] == [sample[:2] for sample in plain]
    moving = (
        *("process_", "cpython_", "support_event_loop_lag", "support_attachment_backlog_age", "support_ticket_oldest"),
        *("support_ticket_open", "support_sla_running", "support_snooze_overdue", "support_events_", "support_audit_"),
        "db_client_",
    )
    of_both = [[each for each in samples if not each[0].startswith(moving)] for samples in (compressed, plain)]
    assert of_both[0] == of_both[1]


async def test_scrape_is_compressed_only_if_gzip_is_accepted(client):
    refused = ("", "identity", "gzip;q=0", "gzip; q=0.000, *", "x-nogzip", "br, deflate", "gzip;q=odd")
    for accepted in ("gzip", "deflate, GZIP;q=0.5", "*", "x-gzip", *refused):
        async with client.get("/metrics", headers={"Accept-Encoding": accepted}, auto_decompress=False) as response:
            coding = response.headers.get("Content-Encoding")
            assert coding == (None if accepted in refused else "gzip"), accepted


async def test_metrics_can_be_turned_off(make_client):
    """With the exporter `none` a scrape is empty, and the service works."""
    client = await make_client(OTEL_METRICS_EXPORTER="none")
    await open_case(client)
    assert (await scrape(client))[0].strip() in ("", "# EOF")


async def test_attributes_of_the_resource_are_in_target_info(make_client, monkeypatch):
    """One series has them."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests,team=blue")
    client = await make_client()
    told, _ = await scrape(client)
    (series,) = [line for line in told.splitlines() if line.startswith("target_info{")]
    for label in ('deployment_environment_name="tests"', 'team="blue"', 'service_name="support-service"'):
        assert label in series
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    families = [each.name for _ in range(2) for each in openmetrics((await scrape(client, **wanted))[0])]
    assert families.count("target") == 2

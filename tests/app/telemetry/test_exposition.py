"""The scrape: its series from the start on, its formats, and its limits on label values."""

import asyncio
import gzip
import re
import subprocess

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
from support_service.platform.database.opening import DATABASE_NUMBER
from support_service.platform.telemetry.http import HTTP_CLIENT_DURATION
from support_service.platform.telemetry.stores import (
    REDIS_EVICTED_KEYS,
    REDIS_EVICTION_POLICY,
    REDIS_MEMORY,
    REDIS_MEMORY_LIMIT,
    REDIS_ROLE,
    STANDBY_LAG,
)
from support_service.timeline.source_client import SOURCE_OUTCOMES
from tests.support.calls import add_message, expect_problem, open_case, read_timeline, upload
from tests.support.scrape import Scrape, parse
from tests.support.service import service_of

FIRST = {
    "support_timeline_collect_seconds_count": [{"source": "cache"}, {"source": "remote"}],
    "support_timeline_cache_events_total": [
        {"event": event} for event in ("hit", "miss", "write", "invalidate", "error")
    ],
    "support_timeline_collection_failures_total": [
        {"stage": stage} for stage in ("http", "cache", "cache_decode", "aggregate")
    ],
    "support_attachment_stored_total": [{"content_type": kind} for kind in COUNTED_CONTENT_TYPES],
    "support_attachment_backlog_bytes": [{}],
    "support_attachment_backlog_files": [{}],
    "support_ticket_created_total": [{"channel": channel} for channel in (*CHANNELS, "other")],
    "support_conversation_added_total": [{"author_type": author} for author in ("agent", "customer", "bot")],
    "support_ticket_status_changed_total": [{"status": status} for status in ("open", "pending", "resolved", "closed")],
}
HTTP = "http_server_request_duration_seconds_count"


async def scrape(client, **headers):
    """Return the text and the content type of a scrape."""
    async with client.get("/metrics", headers=headers) as response:
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first_scrape(shared_client):
    """The text of the first scrape of a service."""
    return (await scrape(shared_client))[0]


@pytest.fixture
def client(first_scrape, shared_client):
    """A client of that service, for all tests that need no new one."""
    return shared_client


@pytest.mark.parametrize("name", FIRST)
async def test_contract_series_are_zero_on_the_first_scrape(first_scrape, name):
    """The first scrape has exactly the contract's label sets, each with the value 0."""
    found = [(given, value) for sample, given, value in parse(first_scrape) if sample == name]
    assert sorted(map(str, found)) == sorted(str((wanted, 0.0)) for wanted in FIRST[name])


async def test_first_scrape_has_every_instrument(first_scrape):
    """Each is exposed with its meaning from the first scrape on, except metrics of jobs, tokens and other servers."""
    of_redis = [REDIS_EVICTION_POLICY, REDIS_ROLE, REDIS_EVICTED_KEYS, REDIS_MEMORY, REDIS_MEMORY_LIMIT]
    of_replicas = [REPLICA_READY, DEPENDENCY_STATUS, CERTIFICATE_EXPIRES, STANDBY_LAG, WEBHOOK_OVERDUE_AGE]
    of_s3 = [S3_CALLS, S3_REPEATS]
    later = [
        *of_s3,
        ATTACHMENT_UNREPAIRED,
        HTTP_CLIENT_DURATION,
        ACCESS_CALLERS,
        DATABASE_NUMBER,
        *of_redis,
        *of_replicas,
    ]
    assert {row for row in INSTRUMENTS if row.meaning not in first_scrape} == {*later}
    services = [(one, two) for one in UPSTREAM_SERVICES for two in SOURCE_OUTCOMES]
    found = [given for sample, given, _ in parse(first_scrape) if sample == "support_timeline_source_seconds_count"]
    assert sorted((given["service"], given["outcome"]) for given in found) == sorted(services)


async def test_request_histogram_is_on_the_first_scrape(first_scrape):
    assert "http_server_request_duration_seconds" in first_scrape


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


async def test_two_apps_in_one_process_count_separately(make_client):
    one, two = await make_client(), await make_client()
    await open_case(one)
    assert Scrape(service_of(one).metrics).nonzero("support_ticket_created_total") == {"email": 1}
    assert Scrape(service_of(two).metrics).nonzero("support_ticket_created_total") == {}


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
        async with client.get("/support/cases", headers={"X-Forwarded-Proto": "http, https"}) as response:
            assert response.status == 200
        assert metrics.value(HTTP, **labels, url_scheme=expected) == 1
        assert metrics.total(HTTP) == 1


async def test_requests_of_the_probe_are_counted_apart(client, metric_changes):
    """By their User-Agent; health checks and scrapes are not counted."""
    name = "support_request_received_total"
    for agent in ("support-service-probe/1.0", "curl/8", "my support-service-probe/1.0"):
        await (await client.get("/support/cases", headers={"User-Agent": agent})).read()
    await (await client.get("/livez")).read()
    assert metric_changes.nonzero(name) == {"probe": 1, "other": 2}


async def test_values_chosen_by_clients_become_other(make_client):
    """Channels, content types, methods, paths and hosts that a client invents become `other` or no label."""
    client = await make_client()
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
    assert metrics.value("support_ticket_created_total", channel="other") == 5
    assert metrics.value("support_attachment_stored_total", content_type="other") == 5
    assert {given["http_request_method"] for given in metrics.nonzero_labels(HTTP)} <= {"GET", "POST", "_OTHER"}
    assert len(metrics.nonzero_labels(HTTP)) <= 6


async def test_openmetrics_is_served_when_preferred(client):
    """A scraper that prefers OpenMetrics gets a complete exposition in that format."""
    await open_case(client)
    text, content_type = await scrape(client, Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert {family.name for family in openmetrics(text)} >= {
        "support_ticket_created",
        "support_timeline_collect_seconds",
    }
    assert (await scrape(client))[1].startswith("text/plain; version=")


async def test_compressed_scrape_equals_the_plain_scrape(client):
    """A scraper that accepts gzip gets the same series and values, except volatile ones."""
    await open_case(client)
    async with client.get("/metrics", headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        compressed = await response.read()
    async with client.get("/metrics", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["Vary"]
        plain = parse(await response.text())
    decompressed = parse(gzip.decompress(compressed).decode())
    assert [sample[:2] for sample in decompressed] == [sample[:2] for sample in plain]
    moving = (
        "process_",
        "cpython_",
        "support_event_loop_lag",
        "support_attachment_backlog_age",
        "support_ticket_oldest",
        "support_ticket_open",
        "support_sla_running",
        "support_snooze_overdue",
        "support_events_",
        "support_audit_",
        "db_client_",
    )
    assert [sample for sample in decompressed if not sample[0].startswith(moving)] == [
        sample for sample in plain if not sample[0].startswith(moving)
    ]


@pytest.mark.parametrize(
    ("header", "compressed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("x-nogzip", False),
        ("br, deflate", False),
        ("gzip;q=odd", False),
    ],
)
async def test_scrape_is_compressed_only_if_gzip_is_accepted(first_scrape, shared_client, header, compressed):
    async with shared_client.get("/metrics", headers={"Accept-Encoding": header}, auto_decompress=False) as response:
        assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)


async def test_promtool_accepts_a_live_scrape(client, promtool):
    """`promtool check metrics` reports nothing."""
    case = await open_case(client, initialMessage={"authorType": "bot", "message": "Hi"})
    await upload(client, case)
    await read_timeline(client, case)
    text, _ = await scrape(client)
    command = [promtool, "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_metrics_can_be_turned_off(make_client):
    """With the exporter `none` a scrape is empty, and the service works."""
    client = await make_client(OTEL_METRICS_EXPORTER="none")
    await open_case(client)
    assert (await scrape(client))[0].strip() in ("", "# EOF")


async def test_attributes_of_the_resource_are_in_target_info_if_it_is_wanted(make_client, monkeypatch):
    """One series has them, and no other series changes."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests,team=blue")
    plain, _ = await scrape(await make_client())
    told, _ = await scrape(await make_client(SUPPORT_METRICS_TARGET_INFO="true"))
    assert "target_info" not in plain
    (series,) = [line for line in told.splitlines() if line.startswith("target_info{")]
    for label in ('deployment_environment_name="tests"', 'team="blue"', 'service_name="support-service"'):
        assert label in series
    assert {line for line in told.splitlines() if line.startswith("# TYPE")} - {
        line for line in plain.splitlines() if line.startswith("# TYPE")
    } == {"# TYPE target_info gauge"}
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    client = await make_client(SUPPORT_METRICS_TARGET_INFO="true")
    families = [each.name for _ in range(2) for each in openmetrics((await scrape(client, **wanted))[0])]
    assert families.count("target") == 2

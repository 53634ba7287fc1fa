"""Every dashboard panel against a live Prometheus that scrapes a service with traffic."""

import asyncio
import base64
import json
import math
import subprocess
import time

import pytest
import redis.asyncio as aioredis
from grafana.rows import ROWS

from tests.support.backends import Prometheus
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json
from tests.support.process import running
from tests.support.promql import ROOT, RULES
from tests.support.servers import find_binary, free_port
from tests.support.stream import follow
from tests.support.tls import start_tls_server

HISTORY = "support:tickets_created:rate15m"
DAY, STEP = 86_400, 300  # seconds
# Without a failing dependency or tokens they have no series; the faults of their alerts have them.
EMPTY = {
    *("Support dependencies by replica", "Support callers", "Support changes refused"),
    "Support S3 calls",  # its repeats: no call of S3 fails
}
NOT_ON_SQLITE = "support_database_number"
QUERIES = [(panel.title, query.expr) for row in ROWS for panel in row.panels for query in panel.queries]


def write_history(data, samples):
    """Write samples as blocks of Prometheus, as if it had been running for days."""
    text = data.parent / "history.txt"
    text.write_text(f"# TYPE {HISTORY} gauge\n" + "".join(samples) + "# EOF\n")
    promtool = find_binary("promtool")
    # Each block takes a third of a second; with the default of 2 h there would be 95 of them.
    command = (promtool, "tsdb", "create-blocks-from", "--max-block-duration=192h", "openmetrics", text, data)
    subprocess.run(command, check=True, capture_output=True)


def usual_traffic(now):
    """Return eight days of samples, a few cases a minute, up to three hours ago."""
    return [f"{HISTORY} {0.05 + at % 7 / 100} {at}\n" for at in range(now - 8 * DAY, now - 3 * 3600, STEP)]


@pytest.fixture
def probe_port():
    return free_port()


@pytest.fixture
def prometheus(start, tmp_path, port, probe_port):
    """A Prometheus with a history and the project's rules that scrapes service and probe."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    write_history(folder / "data", usual_traffic(int(time.time())))
    return start(Prometheus, folder, f"127.0.0.1:{port}", rules=RULES, probe=f"127.0.0.1:{probe_port}")


def running_probe(folder, port, probe_port):
    """Run the probe every second, with thresholds that no step exceeds."""
    addresses = (f"--base-url=http://127.0.0.1:{port}", f"--listen=127.0.0.1:{probe_port}")
    return running("probe", *addresses, "--interval=1s", "--threshold=30", "--event-threshold=30", cwd=folder)


async def send_event(session):
    event = {"specversion": "1.0", "id": "e-1", "source": "/tests", "type": "fulfillment.shipment.updated.v1"}
    data = {"orderId": "ORD-1", "shipmentId": "SHP-1", "trackingNumber": "T", "status": "in_transit"}
    headers = {"Content-Type": "application/cloudevents+json"}
    await expect_json(session.post("/support/events", json=event | {"data": data}, headers=headers), 202)


def as_grafana_sends(expr):
    return expr.replace("$job", ".+").replace("$instance", ".*").replace("$__rate_interval", "1m")


def queries_without_a_value(prometheus):
    wanted = [(title, expr) for title, expr in QUERIES if title not in EMPTY and NOT_ON_SQLITE not in expr]
    found = [(each, prometheus.query(as_grafana_sends(each[1]))) for each in wanted]
    return [each for each, values in found if not any(math.isfinite(value) for _, value in values)]


@pytest.fixture
async def limited_redis(redis):
    connection = aioredis.from_url(redis.url)
    await connection.config_set("maxmemory", 500_000_000)
    yield redis
    await connection.config_set("maxmemory", 0)
    await connection.aclose()


@pytest.fixture
async def tls_url(tmp_path):
    """The URL of a TLS server, which takes no events."""
    server, url = await start_tls_server(tmp_path, days=30)
    yield url
    server.close()


@pytest.fixture
def variables(limited_redis, s3, tls_url):
    """Settings of a service that uses all it can depend on, with the short timings of a drill.

    It offloads files to S3 within seconds, and sends events to a webhook.
    """
    secret = "whsec_" + base64.b64encode(b"panel" * 6).decode()
    return {
        "module": "tests.e2e.drill.scaled_service",
        "PYTHONPATH": str(ROOT),
        "SUPPORT_REDIS_URL": limited_redis.url,
        "SUPPORT_S3_BUCKET": s3.create_bucket(),
        "SUPPORT_S3_ENDPOINT": s3.url,
        "SUPPORT_OFFLOAD_AFTER": "0s",
        "SUPPORT_WEBHOOKS": json.dumps([{"name": "crm", "url": tls_url, "secret": secret}]),
    }


async def agree_on_a_service_level(session):
    """Promise a first answer within an hour for every case."""
    policy = {"match": {}, "targets": {"firstResponse": "PT1H"}}
    async with session.put("/support/sla-policies/all", json=policy) as answer:
        assert answer.status in (200, 201), await answer.text()


@pytest.mark.long
async def test_every_panel_query_returns_a_value(
    serve, session, workload, prometheus, variables, port, probe_port, tmp_path
):
    """After some traffic each query of each panel yields a number."""
    async with serve(**variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        # Prometheus knows the service, so later requests count as increases.
        await eventually(lambda: prometheus.query("support_build_info"))
        await agree_on_a_service_level(session)
        async with running_probe(tmp_path, port, probe_port), follow(session):
            await workload(session)
            await send_event(session)
            give_up = time.monotonic() + 6 * GENEROUS_TIMEOUT
            while (missing := queries_without_a_value(prometheus)) and time.monotonic() < give_up:
                await workload(session)  # repeat: the first sample of a counter is no increase
                await asyncio.sleep(1)  # between two samples
            assert not missing, "\n".join(map(str, missing))
        for _, expr in QUERIES:
            prometheus.query(as_grafana_sends(expr))  # raises if the query is invalid

"""Every panel of the dashboard against a live Prometheus that scrapes a service which has worked."""

import asyncio
import math
import subprocess
import time

import pytest
from grafana import generate

from tests.support.backends import Prometheus
from tests.support.calls import PATIENCE, eventually
from tests.support.process import running
from tests.support.promql import ROOT, RULES
from tests.support.servers import MissingServer, find_binary, free_port

HISTORY = "support:tickets_created:rate15m"
DAY, STEP = 86_400, 300  # seconds
QUERIES = [(panel.title, query.expr) for row in generate.ROWS for panel in row.panels for query in panel.queries]


def remember(data, samples):
    """Lay down what Prometheus would know, had it run for days."""
    text = data.parent / "history.txt"
    text.write_text(f"# TYPE {HISTORY} gauge\n" + "".join(samples) + "# EOF\n")
    promtool = find_binary("promtool")
    # Blocks of up to 192 h: each block takes a third of a second, and with 2 h each there would be 95 of them.
    command = (promtool, "tsdb", "create-blocks-from", "--max-block-duration=192h", "openmetrics", text, data)
    subprocess.run(command, check=True, capture_output=True)


def usual(now):
    """Eight days of cases, a few a minute, up to three hours ago."""
    return [f"{HISTORY} {0.05 + at % 7 / 100} {at}\n" for at in range(now - 8 * DAY, now - 3 * 3600, STEP)]


@pytest.fixture
def probe_port():
    """A free port for the probe's metrics."""
    return free_port()


@pytest.fixture
def prometheus(servers, tmp_path, port, probe_port):
    """A Prometheus with a history, the project's rules and the service's address."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    try:
        remember(folder / "data", usual(int(time.time())))
        server = Prometheus(folder, f"127.0.0.1:{port}", rules=RULES, probe=f"127.0.0.1:{probe_port}")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield server
    server.close()


def probing(folder, port, probe_port):
    """The synthetic check, every second, by whose clock nothing is slow."""
    where = (f"--base-url=http://127.0.0.1:{port}", f"--listen=127.0.0.1:{probe_port}")
    return running("probe", *where, "--interval=1s", "--threshold=30", "--event-threshold=30", cwd=folder)


async def tell(session):
    """Send an event of the fulfillment service."""
    event = {"specversion": "1.0", "id": "e-1", "source": "/tests", "type": "fulfillment.shipment.updated.v1"}
    data = {"orderId": "ORD-1", "shipmentId": "SHP-1", "trackingNumber": "T", "status": "in_transit"}
    headers = {"Content-Type": "application/cloudevents+json"}
    async with session.post("/support/events", json=event | {"data": data}, headers=headers) as answer:
        assert answer.status == 202


def asked(expr):
    """A query as Grafana sends it."""
    return expr.replace("$job", ".+").replace("$__rate_interval", "1m")


def empty(prometheus):
    """The queries that give no number now."""
    return [
        (title, expr)
        for title, expr in QUERIES
        if not any(math.isfinite(value) for _, value in prometheus.query(asked(expr)))
    ]


@pytest.fixture
def offloading(redis, s3):
    """A service that moves files to S3 within seconds, as in a drill."""
    return {
        "module": "tests.e2e.drill.command",
        "PYTHONPATH": str(ROOT),
        "SUPPORT_REDIS_URL": redis.url,
        "SUPPORT_S3_BUCKET": s3.create_bucket(),
        "SUPPORT_S3_ENDPOINT": s3.url,
        "SUPPORT_OFFLOAD_AFTER": "0s",
    }


async def test_every_panel_shows_something(serve, session, work, prometheus, offloading, port, probe_port, tmp_path):
    """After some traffic each query of each panel gives a number."""
    async with serve(**offloading) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        # What follows is seen as an increase.
        await eventually(lambda: prometheus.query("support_build_info"))
        async with probing(tmp_path, port, probe_port):
            await work(session)
            await tell(session)
            give_up = time.monotonic() + 6 * PATIENCE
            while (without := empty(prometheus)) and time.monotonic() < give_up:
                await work(session)  # again: what is counted for the first time is no increase
                await asyncio.sleep(1)
            assert without == []
        for _, expr in QUERIES:
            prometheus.query(asked(expr))  # raises for what Prometheus can't read

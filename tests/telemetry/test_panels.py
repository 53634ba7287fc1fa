"""Every panel of the dashboard against a live Prometheus that scrapes a service which has worked."""

import contextlib
import math
import subprocess
import time

import pytest

from grafana import generate
from tests.backends import Prometheus
from tests.calls import eventually
from tests.promql import RULES, names, pending
from tests.servers import MissingServer, find_binary

HISTORY = "support:tickets_created:rate15m"
DAY, STEP = 86_400, 300  # seconds
QUERIES = [(panel.title, query.expr) for row in generate.ROWS for panel in row.panels for query in panel.queries]


def remember(data, samples):
    """Lay down what Prometheus would know, had it run for days."""
    text = data.parent / "history.txt"
    text.write_text(f"# TYPE {HISTORY} gauge\n" + "".join(samples) + "# EOF\n")
    promtool = find_binary("promtool")
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", text, data], check=True, capture_output=True)


def usual(now):
    """Eight days of cases, a few a minute, up to three hours ago."""
    return [f"{HISTORY} {0.05 + at % 7 / 100} {at}\n" for at in range(now - 8 * DAY, now - 3 * 3600, STEP)]


@pytest.fixture
def prometheus(tmp_path, port):
    """A Prometheus with a history, the project's rules and the service's address."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    try:
        remember(folder / "data", usual(int(time.time())))
        server = Prometheus(folder, f"127.0.0.1:{port}", rules=RULES)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield server
    server.close()


def asked(expr):
    """A query as Grafana sends it."""
    return expr.replace("$job", ".+").replace("$__rate_interval", "1m")


def empty(prometheus):
    """The queries that give no number now, of those that name nothing that is still to come."""
    return [
        (title, expr)
        for title, expr in QUERIES
        if not names(expr) & pending() and not any(math.isfinite(value) for _, value in prometheus.query(asked(expr)))
    ]


async def test_every_panel_shows_something(serve, session, work, prometheus, redis, port):
    """After some traffic each query of each panel gives a number, and those still to come are queries all the same."""
    async with serve(SUPPORT_REDIS_URL=redis.url) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        # What follows is seen as an increase.
        await eventually(lambda: prometheus.query("support_build_info"))
        await work(session)
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: not empty(prometheus))
        assert empty(prometheus) == []
        for _, expr in QUERIES:
            prometheus.query(asked(expr))  # raises for what Prometheus can't read

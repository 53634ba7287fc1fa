"""What reports the metrics that nothing records yet, or that no fault can be made for on one machine.

Its healthy values change no verdict where the service records the same metric: rules take the worst of all.
"""

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.drill import SIZE

GIB = 1024**3 / SIZE
HEALTHY = {
    "support_attachment_disk_free_bytes": 18 * GIB,
    'support_attachment_offloaded_total{to="s3",outcome="moved"}': 0,
    'support_attachment_offloaded_total{to="s3",outcome="failed"}': 0,
    'support_attachment_scrubbed_total{outcome="mismatch"}': 0,
    'support_attachment_unrepaired{kind="missing"}': 0,
    'support_events_consumed_total{outcome="applied"}': 0,
    "support_events_dead_letters": 0,
    "support_events_outbox_oldest_seconds": 0,
    "support_events_stream_lag": 0,
}
PROBE = {"support_probe_success": 1}
STEP = 2  # what a counter that grows does with each scrape


class StandIn:
    """An exporter whose values a fault sets."""

    def __init__(self, healthy: dict[str, float]) -> None:
        self._healthy = healthy
        self.values = dict(healthy)
        self.growing: set[str] = set()  # counters
        self._server: TestServer | None = None
        self._port = 0

    async def open(self) -> None:
        """Listen, on the same port each time."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._server = TestServer(app, port=self._port or None)
        await self._server.start_server()
        self._port = self._server.port

    async def close(self) -> None:
        """Stop; a scrape finds nobody."""
        await self._server.close()

    @property
    def target(self) -> str:
        """Where Prometheus finds it."""
        return f"127.0.0.1:{self._port}"

    def heal(self) -> None:
        """Every gauge at its healthy value; what counted goes on from where it is."""
        self.growing.clear()
        self.values |= {name: value for name, value in self._healthy.items() if "_total" not in name}

    async def _metrics(self, _: web.Request) -> web.Response:
        for name in self.growing:
            self.values[name] += STEP
        return web.Response(text="".join(f"{name} {value:g}\n" for name, value in self.values.items()))

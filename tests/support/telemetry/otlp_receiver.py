"""An OTLP receiver over HTTP that decodes and keeps what it receives."""

import gzip

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OtlpReceiver:
    """Accepts OTLP in protobuf on /v1/metrics and /v1/traces."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, str]] = {}  # resource attributes by the name of the metric
        self.exemplars: dict[str, list[tuple[str, str]]] = {}  # (trace, span) in hex, by the name of the metric
        self.spans: list[Span] = []
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/metrics", self._take_metrics)
        app.router.add_post("/v1/traces", self._take_traces)
        self._server = TestServer(app)

    async def open(self) -> None:
        await self._server.start_server()

    async def close(self) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    @property
    def request_spans(self) -> list["Span"]:
        """The spans of requests and of calls to other services, without spans of database operations."""
        return [span for span in self.spans if "db.system.name" not in span.attributes]

    async def _take_metrics(self, request: web.Request) -> web.Response:
        message = ExportMetricsServiceRequest.FromString(await _body(request))
        for resource in message.resource_metrics:
            attributes = _attributes(resource.resource.attributes)
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                self.metrics[metric.name] = attributes
                self.exemplars.setdefault(metric.name, []).extend(
                    (exemplar.trace_id.hex(), exemplar.span_id.hex())
                    for point in metric.histogram.data_points
                    for exemplar in point.exemplars
                )
        return web.Response(content_type="application/x-protobuf")

    async def _take_traces(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await _body(request))
        for resource in message.resource_spans:
            attributes = _attributes(resource.resource.attributes)
            self.spans += [Span(span, attributes) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


class Span:
    def __init__(self, span, resource: dict[str, str]) -> None:
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.name = span.name
        self.kind = {2: "server", 3: "client", 4: "producer", 5: "consumer"}.get(span.kind, "internal")
        self.failed = span.status.code == 2
        self.attributes = _attributes(span.attributes)
        self.resource = resource


def _attributes(pairs) -> dict[str, str]:
    return {pair.key: str(getattr(pair.value, pair.value.WhichOneof("value"))) for pair in pairs}


async def _body(request: web.Request) -> bytes:
    body = await request.read()  # aiohttp decompresses only if the header names gzip
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

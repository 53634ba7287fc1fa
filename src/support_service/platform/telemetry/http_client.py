"""HTTP client metrics by the semantic conventions: the duration of each request to another server."""

from time import perf_counter
from types import SimpleNamespace
from typing import Any

import aiohttp
from opentelemetry.metrics import Histogram

from support_service.platform.telemetry.instruments.stores import OTHER_ERROR


def client_metrics(duration: Histogram) -> aiohttp.TraceConfig:
    """Return a trace configuration that records each request of a client session, until the headers of its response.

    The address is that of the URL: for sessions whose URLs come from the configuration only.
    """

    async def start(_session: aiohttp.ClientSession, context: SimpleNamespace, _: Any) -> None:
        context.measured_from = perf_counter()

    def record(context: SimpleNamespace, params: Any, outcome: dict[str, str | int]) -> None:
        attributes = {
            "http.request.method": params.method,
            "server.address": params.url.host or "",
            "server.port": params.url.port or 0,
        }
        duration.record(perf_counter() - context.measured_from, attributes | outcome)

    async def end(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        status = params.response.status
        error: dict[str, str | int] = {"error.type": str(status)} if status >= 400 else {}  # noqa: PLR2004 - HTTP's own
        record(context, params, {"http.response.status_code": status, **error})

    async def fail(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        record(context, params, {"error.type": _error_type(params.exception)})

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config


def _error_type(failure: BaseException) -> str:
    """Return the label of a request without a response, from a closed set of values."""
    if isinstance(failure, TimeoutError):
        return "timeout"
    if isinstance(failure, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(failure, aiohttp.ClientConnectionError | OSError):
        return "connection"
    return OTHER_ERROR

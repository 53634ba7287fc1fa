"""Structured logs: one JSON object a line, each with the request, the trace and the case that it belongs to."""

import logging
import sys
import time
from contextvars import ContextVar

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

from support_service.telemetry.traces import trace_id

# What a service or a cache answers is complained of at each read.
ANSWERS = ("support_service.timeline.sources.client", "support_service.timeline.cache.snapshot_cache")
CLIENTS_FAULT = (HttpProcessingError, RequestPayloadError, ConnectionError)
REPORT_EVERY = 60.0  # seconds
MOST_KINDS = 64
REFUSED = "support_service.refused"  # the logger of what clients sent that could not be read
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
CASE_ID: ContextVar[str | None] = ContextVar("case_id", default=None)


class ContextFilter(logging.Filter):
    """Gives every record the ids of the context that logs it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.requestId = REQUEST_ID.get()
        record.traceId = trace_id()
        record.caseId = CASE_ID.get()
        return True


class ClientsFaultFilter(logging.Filter):
    """Says in one line, without its words, what aiohttp logs with a trace where it was the client that failed.

    The words of such an exception quote what the client sent, be it a password or a body.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], CLIENTS_FAULT):
            record.name, record.levelno, record.levelname = REFUSED, logging.INFO, "INFO"
            record.msg, record.args = "A client failed: %s", (type(record.exc_info[1]).__name__,)
            record.exc_info = record.exc_text = None
        return True


class OnceAMinuteFilter(logging.Filter):
    """Lets one record a minute of each kind in some packages through, without its trace.

    An exporter complains at each try, and a client may send nonsense all day. A kind is a logger's message before its
    arguments; those beyond MOST_KINDS share one turn, so that odd messages can't fill the memory.
    """

    def __init__(self, *packages: str) -> None:
        super().__init__()
        self._packages = [logging.Filter(package) for package in packages]
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # when the next may pass, how many were held

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(package.filter(record) for package in self._packages):
            return True
        kind = (record.name, str(record.msg))
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = ("", "")
        due, held = self._kinds.get(kind, (0.0, 0))
        now = time.monotonic()
        if now < due:
            self._kinds[kind] = (due, held + 1)
            return False
        self._kinds[kind] = (now + REPORT_EVERY, 0)
        cause = record.exc_info[1] if record.exc_info else None
        message = f"{record.getMessage()}: {type(cause).__name__}" if cause else record.getMessage()
        record.msg, record.args = (f"{message} ({held} more since the last such line)" if held else message), None
        record.exc_info = record.exc_text = None
        return True


def configure(level: str) -> None:
    """Send the process's logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ContextFilter())
    handler.addFilter(OnceAMinuteFilter("opentelemetry", REFUSED, *ANSWERS))
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}{requestId}{traceId}{caseId}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.server").addFilter(ClientsFaultFilter())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # http/instrumentation.py writes the access log
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs each retry of an export

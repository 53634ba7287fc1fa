"""Structured logs: one JSON object a line, each with the request, the trace and the case that it belongs to."""

import logging
import sys
import time
from contextvars import ContextVar

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

from support_service.telemetry.traces import trace_id

CLIENTS_FAULT = (HttpProcessingError, RequestPayloadError, ConnectionError)
EXPORT_REPORT_EVERY = 60.0  # seconds
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
CASE_ID: ContextVar[str | None] = ContextVar("case_id", default=None)


class ContextFilter(logging.Filter):
    """Gives every record the ids of the context that logs it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.requestId = REQUEST_ID.get()
        record.traceId = trace_id()
        record.caseId = CASE_ID.get()
        return True


class OneLineFilter(logging.Filter):
    """Says in one line what aiohttp logs with a trace where it was the client that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], CLIENTS_FAULT):
            cause = " ".join(str(record.exc_info[1]).split())[:200]
            record.msg = f"{record.getMessage()}: {type(record.exc_info[1]).__name__} {cause}"
            record.args, record.exc_info = None, None
        return True


class OnceAMinuteFilter(logging.Filter):
    """Lets one record a minute of a package through, without its trace: an exporter complains at each try."""

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self._next = 0.0
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True  # another package's
        now = time.monotonic()
        if now < self._next:
            self._held += 1
            return False
        record.msg = f"{record.getMessage()} ({self._held} more in the minute before)"
        record.args, record.exc_info = None, None
        self._next, self._held = now + EXPORT_REPORT_EVERY, 0
        return True


def configure(level: str) -> None:
    """Send the process's logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ContextFilter())
    handler.addFilter(OnceAMinuteFilter("opentelemetry"))
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}{requestId}{traceId}{caseId}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.server").addFilter(OneLineFilter())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # web/middleware.py writes the access log
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs each retry of an export

"""Structured logs: one JSON object per line, with the ids of its request, trace and case."""

import logging
import sys
import time
from contextvars import ContextVar

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

from support_service.telemetry.traces import trace_id

# Loggers that report invalid responses of upstream services and the cache at each read.
UPSTREAM_LOGGERS = ("support_service.timeline.sources.client", "support_service.timeline.cache.snapshot_cache")
CLIENT_ERRORS = (HttpProcessingError, RequestPayloadError, ConnectionError)
REPORT_EVERY = 60.0  # seconds
MAX_KINDS = 64
CLIENT_ERROR_LOGGER = "support_service.refused"  # logger for client input that could not be parsed
LOG_REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
LOG_CASE_ID: ContextVar[str | None] = ContextVar("case_id", default=None)


class ContextFilter(logging.Filter):
    """Adds the request, trace and case ids of the current context to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.requestId = LOG_REQUEST_ID.get()
        record.traceId = trace_id()
        record.caseId = LOG_CASE_ID.get()
        return True


class ClientErrorFilter(logging.Filter):
    """Shortens aiohttp's tracebacks of client failures to one line with the exception's type.

    The exception's text is left out because it quotes client input, such as a password or a body.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], CLIENT_ERRORS):
            record.name, record.levelno, record.levelname = CLIENT_ERROR_LOGGER, logging.INFO, "INFO"
            record.msg, record.args = "A client failed: %s", (type(record.exc_info[1]).__name__,)
            record.exc_info = record.exc_text = None
        return True


class RateLimitFilter(logging.Filter):
    """Passes one record per minute and kind from the given packages, without its traceback.

    An exporter logs each failed attempt, and a client may send invalid input all day. A kind is a logger's message
    before its arguments are filled in. Beyond MAX_KINDS, all further kinds share one slot, which bounds the memory.
    """

    def __init__(self, *packages: str) -> None:
        super().__init__()
        self._packages = [logging.Filter(package) for package in packages]
        self._kinds: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # time of the next pass (monotonic), records suppressed since

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(package.filter(record) for package in self._packages):
            return True
        kind = (record.name, str(record.msg))
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
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
    """Log to standard error as JSON, from the given level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ContextFilter())
    handler.addFilter(RateLimitFilter("opentelemetry", CLIENT_ERROR_LOGGER, *UPSTREAM_LOGGERS))
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}{requestId}{traceId}{caseId}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.server").addFilter(ClientErrorFilter())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # http/instrumentation.py writes the access log
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns about each retry of an export

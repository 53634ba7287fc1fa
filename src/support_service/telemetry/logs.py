"""Structured logs: one JSON object a line, each with the id of the request it belongs to."""

import logging
import sys
from contextvars import ContextVar

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

CLIENTS_FAULT = (HttpProcessingError, RequestPayloadError, ConnectionError)
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestIdFilter(logging.Filter):
    """Gives every record the request id of the context that logs it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.requestId = REQUEST_ID.get()
        return True


class OneLineFilter(logging.Filter):
    """Says in one line what aiohttp logs with a trace where it was the client that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], CLIENTS_FAULT):
            cause = " ".join(str(record.exc_info[1]).split())[:200]
            record.msg = f"{record.getMessage()}: {type(record.exc_info[1]).__name__} {cause}"
            record.args, record.exc_info = None, None
        return True


def configure(level: str) -> None:
    """Send the process's logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}{requestId}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.server").addFilter(OneLineFilter())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # web/middleware.py writes the access log

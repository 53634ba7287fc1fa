"""Structured logs: a JSON object per line, with the ids of its request, trace and case, and the causes of failures."""

import asyncio
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from pathlib import Path

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

import support_service
from support_service.core.errors import SupportError, Unavailable
from support_service.platform.telemetry.traces import current_trace_and_span_ids

# Loggers that report invalid responses of upstream services and the cache at each read.
UPSTREAM_LOGGERS = ("support_service.timeline.source_client", "support_service.timeline.snapshots")
# Loggers of webhook deliveries, and of what a dependency or a limit makes unavailable, each in their children.
WEBHOOK_LOGGER = "support_service.events.webhook_sender"
UNAVAILABLE_LOGGER = "support_service.unavailable"
CLIENT_ERRORS = (HttpProcessingError, RequestPayloadError, ConnectionError)
REPORT_INTERVAL = 60.0  # seconds
MAX_RECORD_KINDS = 64
OTHER_KINDS = ("",)  # the kinds beyond MAX_RECORD_KINDS
CLIENT_ERROR_LOGGER = "support_service.refused"  # logger for client input that could not be parsed
LIMITED_LOGGERS = (CLIENT_ERROR_LOGGER, *UPSTREAM_LOGGERS, WEBHOOK_LOGGER, UNAVAILABLE_LOGGER)
LOG_REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
LOG_CASE_ID: ContextVar[str | None] = ContextVar("case_id", default=None)

# Packages whose exceptions report that a dependency, or the operating system, has failed.
DRIVER_PACKAGES = frozenset({"aiohttp", "asyncpg", "obstore", "redis"})
MAX_CAUSES = 20  # exceptions; a chain may have a cycle
MAX_CAUSE_LENGTH = 300  # characters
PACKAGE_FOLDER = str(Path(support_service.__file__).parent)


class ContextFilter(logging.Filter):
    """Adds the ids of the request, trace, span and case of the current context to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.requestId = LOG_REQUEST_ID.get()
        record.trace_id, record.span_id = current_trace_and_span_ids()
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
    """Limits what an outage, a defect or a client can write: one record or one traceback per minute and kind.

    - Records of the given packages pass once per minute and kind. So do records with an exception that an outage of a
      dependency has caused. They have the innermost cause and the number of records left out, without a traceback.
    - Records with another exception, a defect, all pass: with the traceback once per minute and kind, else with the
      exception's type and place.

    A kind is a logger, its message before its arguments are filled in, the background job (the attribute `job`), and
    the exceptions' types. Beyond MAX_RECORD_KINDS in one minute, all further kinds share one slot, which bounds the
    memory.
    """

    def __init__(self, *packages: str) -> None:
        super().__init__()
        self._packages = [logging.Filter(package) for package in packages]
        self._kinds: dict[
            tuple[str, ...], tuple[float, int]
        ] = {}  # time of the next pass (monotonic), records suppressed since

    def filter(self, record: logging.LogRecord) -> bool:
        failure = record.exc_info[1] if record.exc_info else None
        if any(package.filter(record) for package in self._packages):
            return self._pass_limited(record, (), type(failure).__name__ if failure else "")
        if failure is None:
            return True
        if is_outage(failure):
            kinds = tuple(type(each).__name__ for each in cause_chain(failure))
            at = "" if isinstance(failure, SupportError) else innermost_own_line(failure)
            return self._pass_limited(record, kinds, f"{describe_cause(failure)}{at and f' at {at}'}")
        self._shorten_repeated_defect(record, failure)
        return True

    def _pass_limited(self, record: logging.LogRecord, kinds: tuple[str, ...], cause: str) -> bool:
        held = self._left_out_since_last((*_key_of_log_call(record), *kinds))
        if held is None:
            return False
        message = _first_line(record.getMessage()) if cause else record.getMessage()
        message = f"{message}: {cause}" if cause else message
        record.msg, record.args = (f"{message} ({held} more since the last such line)" if held else message), None
        record.exc_info = record.exc_text = None
        return True

    def _shorten_repeated_defect(self, record: logging.LogRecord, failure: BaseException) -> None:
        kind = type(failure).__name__
        at = innermost_own_line(failure)
        if self._left_out_since_last((*_key_of_log_call(record), kind, at)) is None:
            message = f"{_first_line(record.getMessage())}: {kind} at {at or 'an unknown place'}"
            record.msg, record.args = f"{message}; an earlier line has the traceback", None
            record.exc_info = record.exc_text = None

    def _left_out_since_last(self, kind: tuple[str, ...]) -> int | None:
        """Return None if the kind had a record in the last minute, else the number of records left out since."""
        now = time.monotonic()
        if kind not in self._kinds and len(self._kinds) >= MAX_RECORD_KINDS:
            # A copy of the items, because other threads log too.
            self._kinds = {each: (due, held) for each, (due, held) in [*self._kinds.items()] if now < due}
            kind = kind if len(self._kinds) < MAX_RECORD_KINDS else OTHER_KINDS
        due, held = self._kinds.get(kind, (0.0, 0))
        if now < due:
            self._kinds[kind] = (due, held + 1)
            return None
        self._kinds[kind] = (now + REPORT_INTERVAL, 0)
        return held


def _key_of_log_call(record: logging.LogRecord) -> tuple[str, ...]:
    return record.name, _first_line(str(record.msg)), getattr(record, "job", "")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def outage_logger(name: str) -> logging.Logger:
    """Return a logger for what fails again and again while a dependency is down: each message passes once a minute."""
    return logging.getLogger(f"{UNAVAILABLE_LOGGER}.{name}")


def configure_logging(level: str) -> None:
    """Log to standard error as JSON, from the given level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ContextFilter())
    handler.addFilter(RateLimitFilter("opentelemetry", *LIMITED_LOGGERS))
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}{requestId}{trace_id}{span_id}{caseId}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.server").addFilter(ClientErrorFilter())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # api/routing/pipeline.py writes the access log
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns about each retry of an export


def cause_chain(failure: BaseException) -> list[BaseException]:
    """Return the exception and its causes, the innermost one last; a group is followed into its first exception.

    A timeout cancels what it waits for; this cancellation is not a cause.
    """
    chain = [failure]
    while len(chain) < MAX_CAUSES:
        inner = chain[-1].__cause__
        if inner is None and not chain[-1].__suppress_context__:
            inner = chain[-1].__context__
        if isinstance(chain[-1], BaseExceptionGroup):
            inner = chain[-1].exceptions[0]
        if inner is None or isinstance(inner, asyncio.CancelledError):
            break
        chain.append(inner)
    return chain


def is_outage(failure: BaseException) -> bool:
    """Return True if a dependency or the operating system failed, and False for a defect of the service."""
    return any(
        isinstance(each, Unavailable | OSError) or type(each).__module__.split(".")[0] in DRIVER_PACKAGES
        for each in cause_chain(failure)
    )


def describe_cause(failure: BaseException) -> str:
    """Return the kind and the first line of the innermost cause, such as `ConnectionRefusedError: [Errno 111] …`."""
    cause = cause_chain(failure)[-1]
    kind = cause.code if isinstance(cause, SupportError) else type(cause).__name__
    text = str(cause).strip().partition("\n")[0][:MAX_CAUSE_LENGTH]
    return f"{kind}: {text}" if text else kind


def innermost_own_line(failure: BaseException) -> str:
    """Return the innermost line of the service in the traceback, such as `attachments/service.py:77`; or empty."""
    for frame, number in reversed(list(traceback.walk_tb(failure.__traceback__))):
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE_FOLDER):
            return f"{path.removeprefix(PACKAGE_FOLDER).lstrip('/')}:{number}"
    return ""

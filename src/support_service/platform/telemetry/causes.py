"""The cause of a failure for the log: which exceptions come from an outage of a dependency, and the innermost one."""

import asyncio
import traceback
from pathlib import Path

import support_service
from support_service.core.errors import InsufficientStorage, SupportError, Unavailable

# Packages whose exceptions report that a dependency, or the operating system, has failed.
DRIVERS = frozenset({"aiohttp", "asyncpg", "obstore", "redis"})
MAX_CHAIN = 20  # exceptions; a chain may have a cycle
MAX_TEXT = 300  # characters
PACKAGE = str(Path(support_service.__file__).parent)


def cause_chain(failure: BaseException) -> list[BaseException]:
    """Return the exception and its causes, the innermost one last; a group is followed into its first exception.

    A timeout cancels what it waits for; this cancellation is not a cause.
    """
    chain = [failure]
    while len(chain) < MAX_CHAIN:
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
        isinstance(each, Unavailable | InsufficientStorage | OSError) or type(each).__module__.split(".")[0] in DRIVERS
        for each in cause_chain(failure)
    )


def describe_cause(failure: BaseException) -> str:
    """Return the kind and the first line of the innermost cause, such as `ConnectionRefusedError: [Errno 111] …`."""
    cause = cause_chain(failure)[-1]
    kind = cause.code if isinstance(cause, SupportError) else type(cause).__name__
    text = str(cause).strip().partition("\n")[0][:MAX_TEXT]
    return f"{kind}: {text}" if text else kind


def place(failure: BaseException) -> str:
    """Return the innermost line of the service in the traceback, such as `attachments/service.py:77`; or empty."""
    for frame, number in reversed(list(traceback.walk_tb(failure.__traceback__))):
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{path.removeprefix(PACKAGE).lstrip('/')}:{number}"
    return ""

"""Calls of S3: what S3 answered, in a closed list, and the repeats of calls that may succeed a moment later."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from obstore.exceptions import BaseError

from support_service.attachments.storage.base import (
    CALL_OUTCOMES,
    OPERATIONS,
    S3_CALLS,
    S3_REPEATS,
    Operation,
    StorageOutcome,
    UnreadableFile,
    storage_unavailable,
)
from support_service.core.errors import SupportError
from support_service.platform.telemetry.instruments import Instruments

T = TypeVar("T")
# How often a call is repeated. A server that can't be reached seldom comes back within two seconds.
REPEATS: dict[StorageOutcome, int] = {"slow_down": 5, "server_error": 5, "unreachable": 2}
LONGEST_PAUSE = 1.0  # seconds between two calls
# The error codes of S3 and of servers that are compatible with it.
OUTCOME_BY_CODE: dict[str, StorageOutcome] = {
    **dict.fromkeys(("SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"), "slow_down"),
    **dict.fromkeys(("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled"), "denied"),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), "expired"),
    **dict.fromkeys(("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"), "full"),
    **dict.fromkeys(("BadDigest", "IncompleteBody", "InvalidRange", "XAmzContentSHA256Mismatch"), "wrong_bytes"),
    "InternalError": "server_error",
    "NoSuchBucket": "no_bucket",
    "NoSuchKey": "not_found",
    "RequestTimeTooSkewed": "other",  # with the status 403, but new credentials do not help
    "RequestTimeout": "timeout",
}
OUTCOME_BY_STATUS: dict[int, StorageOutcome] = {
    401: "denied",
    403: "denied",
    404: "not_found",
    408: "timeout",
    416: "wrong_bytes",
    429: "slow_down",
    503: "slow_down",
    507: "full",
}
FIRST_SERVER_ERROR = 500
CODE_PATTERN = re.compile(r"<Code>(\w+)</Code>")
# Not just a number: the error also contains the key and the port, whose digits could match.
STATUS_PATTERN = re.compile(r"status code: (\d{3})")
# The durations and attempts in the first line of obstore's errors, and the operating system's text in their details.
ATTEMPTS_PATTERN = re.compile(r" in [\d.]+\S*s(, after .*?)? +-")
CONNECT_CAUSE_PATTERN = re.compile(r'\b(?:error|message): "([^"]+)"')


class S3Calls:
    """Makes calls of S3, repeats a call that may succeed, and counts what S3 answered.

    obstore can repeat calls, too, but does not say so.
    """

    def __init__(self, instruments: Instruments | None, pause: float) -> None:
        """Without `instruments` nothing is counted. `pause` is in seconds, and doubles with each repeat."""
        self._instruments = instruments
        self._pause = pause
        if instruments is not None:
            for operation in OPERATIONS:
                instruments.start_series(S3_REPEATS, {"operation": operation})
                for outcome in CALL_OUTCOMES:
                    instruments.start_series(S3_CALLS, {"operation": operation, "outcome": outcome})

    async def make(
        self, operation: Operation, call: Callable[[], Awaitable[T]], within: float, *, is_repeatable: bool = True
    ) -> T:
        """Return the result of a call, which with its repeats may take `within` seconds.

        Raises the error of the last call, and TimeoutError.
        """
        repeats = 0
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        result = await call()
                    except (BaseError, FileNotFoundError) as failure:
                        if not await self.waits_to_repeat(operation, failure, repeats, is_repeatable=is_repeatable):
                            raise
                        repeats += 1
                    else:
                        self.count(operation, "ok")
                        return result
        except TimeoutError:
            self.count(operation, "timeout")
            raise

    async def waits_to_repeat(
        self, operation: Operation, failure: Exception, repeats: int, *, is_repeatable: bool = True
    ) -> bool:
        """Count a failed call, and return after a pause whether to repeat it, after `repeats` earlier repeats."""
        outcome = outcome_of(failure)
        self.count(operation, outcome)
        if not is_repeatable or repeats >= REPEATS.get(outcome, 0):
            return False
        # Callers that failed together do not call again together.
        await asyncio.sleep(min(LONGEST_PAUSE, self._pause * 2**repeats) * random.uniform(0.5, 1))
        if self._instruments is not None:
            self._instruments.add(S3_REPEATS, 1, {"operation": operation})
        return True

    def count(self, operation: Operation, outcome: StorageOutcome) -> None:
        if self._instruments is not None:
            self._instruments.add(S3_CALLS, 1, {"operation": operation, "outcome": outcome})


def outcome_of(failure: BaseException) -> StorageOutcome:
    """Return what S3 answered to a call that failed: by its error code, else by its status."""
    if isinstance(failure, TimeoutError):
        return "timeout"
    if isinstance(failure, UnreadableFile):
        return "wrong_bytes"
    text = str(failure)
    if (code := CODE_PATTERN.search(text)) and code[1] in OUTCOME_BY_CODE:
        return OUTCOME_BY_CODE[code[1]]
    if status := STATUS_PATTERN.search(text):
        number = int(status[1])
        return OUTCOME_BY_STATUS.get(number) or ("server_error" if number >= FIRST_SERVER_ERROR else "other")
    if "kind: Timeout" in text:
        return "timeout"
    return "unreachable" if "HttpError" in text else "other"


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate every error of S3 into `storage_unavailable`."""
    try:
        yield
    except TimeoutError as failure:
        raise storage_unavailable("timeout", "The object storage does not respond") from failure
    except (BaseError, FileNotFoundError) as failure:  # a missing bucket is also "not found"
        raise _unavailable(failure) from failure


def _unavailable(failure: Exception) -> SupportError:
    first, _, details = str(failure).partition("\n")
    reason = ATTEMPTS_PATTERN.sub(":", first.removeprefix("Generic S3 error: "))[:300]
    cause = CONNECT_CAUSE_PATTERN.search(details) if "kind: Connect" in details else None
    return storage_unavailable(
        outcome_of(failure),
        "The object storage (SUPPORT_S3_ENDPOINT, SUPPORT_S3_BUCKET) can't be reached or rejects the request: "
        + (f"{reason}: {cause[1]}" if cause else reason),
    )

"""Errors of obstore as the service's own, with texts for people."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from support_service.core.errors import Unavailable

# The durations and attempts in the first line of obstore's errors, and the operating system's text in their details.
ATTEMPTS = re.compile(r" in [\d.]+\S*s(, after .*?)? +-")
CONNECT_CAUSE = re.compile(r'\b(?:error|message): "([^"]+)"')


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate every error of an unreachable server into Unavailable."""
    try:
        yield
    except TimeoutError as failure:
        raise Unavailable("storage_unavailable", "The object storage does not respond") from failure
    except (BaseError, FileNotFoundError) as failure:  # a missing bucket is also "not found"
        raise _unavailable(failure) from failure


def _unavailable(failure: Exception) -> Unavailable:
    first, _, details = str(failure).partition("\n")
    reason = ATTEMPTS.sub(":", first.removeprefix("Generic S3 error: "))[:300]
    cause = CONNECT_CAUSE.search(details) if "kind: Connect" in details else None
    return Unavailable(
        "storage_unavailable",
        "The object storage (SUPPORT_S3_ENDPOINT, SUPPORT_S3_BUCKET) can't be reached or rejects the request: "
        + (f"{reason}: {cause[1]}" if cause else reason),
    )

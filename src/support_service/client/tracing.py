"""The headers that make a call part of the trace of the program that makes it."""

import sys


def trace_headers() -> dict[str, str]:
    """Return `traceparent` and others of the current context; none in a program that does not use OpenTelemetry."""
    if "opentelemetry" not in sys.modules:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers

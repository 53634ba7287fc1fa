"""Telemetry of the service: instruments and their labels, the meter provider, request metrics, traces and logs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES_READ_AT_IMPORT = ("OTEL_PROPAGATORS", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")


@contextmanager
def environment_hidden() -> Iterator[None]:
    """Hide the environment variables that OpenTelemetry reads at import, for the duration of the block.

    An invalid value would end the import with a traceback. settings/ reports an invalid limit in one line, and W3C
    trace context is propagated regardless of OTEL_PROPAGATORS.
    """
    hidden = {name: os.environ.pop(name) for name in VARIABLES_READ_AT_IMPORT if name in os.environ}  # noqa: TID251 - see above
    try:
        yield
    finally:
        os.environ.update(hidden)  # noqa: TID251

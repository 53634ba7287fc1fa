"""What the service says about itself: instruments, their labels, the provider behind them, requests and logs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

READ_AT_IMPORT = ("OTEL_PROPAGATORS", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")


@contextmanager
def environment_hidden() -> Iterator[None]:
    """Hide the variables that OpenTelemetry reads when it is imported, for the length of such an import.

    A wrong value would end the import with a traceback. settings/ refuses a wrong limit in one line, and W3C trace
    context is passed on whatever other propagators are named.
    """
    hidden = {name: os.environ.pop(name) for name in READ_AT_IMPORT if name in os.environ}  # noqa: TID251 - see above
    try:
        yield
    finally:
        os.environ.update(hidden)  # noqa: TID251

"""What the service says about itself: instruments, their labels, the provider behind them, requests and logs."""

import os
from importlib import import_module

# These two are read when OpenTelemetry is imported, and a wrong value ends the import with a trace: so they are out of
# sight until then. settings/ refuses a wrong limit in one line; we pass on W3C trace context, whoever else there is.
_hidden = {
    name: os.environ.pop(name)  # noqa: TID251 - see above
    for name in ("OTEL_PROPAGATORS", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")
    if name in os.environ  # noqa: TID251
}
try:
    import_module("opentelemetry.propagate")
    import_module("opentelemetry.sdk.trace")
finally:
    os.environ.update(_hidden)  # noqa: TID251

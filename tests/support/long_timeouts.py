"""`support-service` with long timeouts, for tests during which the machine may stall."""

from functools import partial

from support_service import cli, server
from support_service.app import build_app
from support_service.platform.telemetry.telemetry import TelemetryTimings
from support_service.service import Timings
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.opening import TimelineTimings
from support_service.timeline.single_flight import SingleFlightTimings

LONG_LEASE = AggregatorTimings(single_flight=SingleFlightTimings(lease=60.0))
server.build_app = partial(
    build_app,
    timings=Timings(telemetry=TelemetryTimings(shutdown_timeout=60.0), timeline=TimelineTimings(aggregator=LONG_LEASE)),
)

if __name__ == "__main__":
    cli.main()

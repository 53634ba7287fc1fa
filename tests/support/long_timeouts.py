"""`support-service` with long timeouts, for tests during which the machine may stall."""

from functools import partial

from support_service import cli, server
from support_service.api import views
from support_service.app import build_app
from support_service.demo import run as demo
from support_service.platform.telemetry.telemetry import TelemetryTimings
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.single_flight import SingleFlightTimings
from support_service.timings import TimelineTimings, Timings
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.timings import PATIENT_DATABASE

views.COUNT_TIMEOUT = 6 * GENEROUS_TIMEOUT
LONG_LEASE = AggregatorTimings(single_flight=SingleFlightTimings(lease=60.0))
server.build_app = demo.build_app = partial(
    build_app,
    timings=Timings(
        telemetry=TelemetryTimings(shutdown_timeout=60.0),
        timeline=TimelineTimings(aggregator=LONG_LEASE),
        database=PATIENT_DATABASE,
    ),
)

if __name__ == "__main__":
    cli.main()

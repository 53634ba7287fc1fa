"""`support-service` that gives up nothing soon, for tests whose machine may stand still."""

from support_service import cli
from support_service.telemetry import provider
from support_service.timeline import single_flight

single_flight.LEASE_SECONDS = 60.0
provider.SHUTDOWN_TIMEOUT = 60.0

if __name__ == "__main__":
    cli.main()

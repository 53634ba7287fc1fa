"""`support-service` that gives up nothing soon, for tests whose machine may stand still."""

from support_service import cli
from support_service.telemetry import provider
from support_service.timeline import single_flight

single_flight.CLAIM_FOR = 60.0
provider.STOP_WITHIN = 60.0

if __name__ == "__main__":
    cli.main()

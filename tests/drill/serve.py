"""`support-service serve` with its own waits divided as those of the rules are: the breaker's rest, and no other."""

from support_service import cli
from support_service.timeline import breaker
from tests.drill import TIME

breaker.OPEN_FOR /= TIME
breaker.OPEN_FOR_AT_MOST /= TIME

if __name__ == "__main__":
    cli.main()

"""`support-service` with its own rests divided as the waits of rules are, where they would be seen.

Nothing rests for less than a quarter of a second, and the relay's lease keeps a second, since this machine is busy.
"""

import os

from support_service import app, cli, upkeep
from support_service.attachments.maintenance import offload
from support_service.events import consumer, relay
from support_service.probe import check
from support_service.timeline import breaker
from support_service.timeline.cache import redis
from tests.drill import TIME

LEAST = 0.25  # seconds


def shorter(seconds: float) -> float:
    """A rest, divided."""
    return max(LEAST, seconds / TIME)


breaker.OPEN_FOR /= TIME
breaker.OPEN_FOR_AT_MOST /= TIME
redis.TRY_EVERY /= TIME
consumer.BACKOFF = (LEAST, shorter(consumer.BACKOFF[1]))
relay.BACKOFF = (LEAST, shorter(relay.BACKOFF[1]))
relay.LEASE = max(1.0, relay.LEASE / TIME)
app.RELAY_LOOK_EVERY = shorter(app.RELAY_LOOK_EVERY)
app.SEAL_EVERY = shorter(app.SEAL_EVERY)
app.BACKLOG_EVERY = shorter(app.BACKLOG_EVERY)
offload.FAILED_FOR /= TIME
upkeep.REMOVE_EVERY = shorter(upkeep.REMOVE_EVERY)
upkeep.OFFLOAD_EVERY = shorter(upkeep.OFFLOAD_EVERY)
upkeep.SWEEP_EVERY = float(os.environ.get("DRILL_SWEEP_EVERY", shorter(upkeep.SWEEP_EVERY)))
upkeep.FIRST_SWEEP = tuple(min(upkeep.SWEEP_EVERY, shorter(seconds)) for seconds in upkeep.FIRST_SWEEP)
check.GRACE = shorter(check.GRACE)

if __name__ == "__main__":
    cli.main()

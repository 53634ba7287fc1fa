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
from tests.e2e.drill import TIME

LEAST = 0.25  # seconds


def shorter(seconds: float) -> float:
    """A rest, divided."""
    return max(LEAST, seconds / TIME)


breaker.OPEN_FOR /= TIME
breaker.MAX_OPEN_FOR /= TIME
redis.RECONNECT_INTERVAL /= TIME
consumer.BACKOFF = (LEAST, shorter(consumer.BACKOFF[1]))
relay.BACKOFF = (LEAST, shorter(relay.BACKOFF[1]))
relay.LEASE_DURATION = max(1.0, relay.LEASE_DURATION / TIME)
app.RELAY_LOOK_EVERY = shorter(app.RELAY_LOOK_EVERY)
app.SEAL_INTERVAL = shorter(app.SEAL_INTERVAL)
app.BACKLOG_REFRESH_INTERVAL = shorter(app.BACKLOG_REFRESH_INTERVAL)
offload.TARGET_FAILURE_RETRY_DELAY /= TIME
upkeep.GARBAGE_COLLECTION_INTERVAL = shorter(upkeep.GARBAGE_COLLECTION_INTERVAL)
upkeep.OFFLOAD_INTERVAL = shorter(upkeep.OFFLOAD_INTERVAL)
upkeep.RECONCILE_INTERVAL = float(os.environ.get("DRILL_SWEEP_EVERY", shorter(upkeep.RECONCILE_INTERVAL)))
upkeep.FIRST_RECONCILE_DELAY = tuple(
    min(upkeep.RECONCILE_INTERVAL, shorter(seconds)) for seconds in upkeep.FIRST_RECONCILE_DELAY
)
check.STEP_TIMEOUT_MARGIN = shorter(check.STEP_TIMEOUT_MARGIN)

if __name__ == "__main__":
    cli.main()

"""Endless loops that poll, and back off after failures."""

import logging
from collections.abc import Awaitable, Callable

from support_service.core.clock import Backoff
from support_service.core.errors import Unavailable
from support_service.events.broker.base import BrokerError
from support_service.platform.background import Pause, wait_for_next_run

log = logging.getLogger(__name__)


async def poll_with_backoff(
    work: Callable[[], Awaitable[object]], name: str, interval: float | Pause, backoff: Backoff
) -> None:
    """Await `work()` after each `interval`, in seconds, until cancelled; back off after a failure.

    While the broker or the database is unavailable, the log has one line a minute: see telemetry/logs.py.
    """
    failures = 0
    while True:
        await wait_for_next_run(backoff.delay(failures) if failures else interval)
        try:
            await work()
        except (BrokerError, Unavailable) as failure:
            log.warning("%s is interrupted and is retried: %s", name, failure, exc_info=failure, extra={"job": name})
            failures += 1
        except Exception:
            log.exception("%s failed and is retried", name, extra={"job": name})
            failures += 1
        else:
            if failures:
                log.info("%s continues", name)
            failures = 0

"""Webhooks: delivers each event to each subscribed endpoint, signed according to Standard Webhooks, retried for a day.

The process that holds the relay's lease also makes the deliveries. Deliveries to one endpoint may arrive out of order;
each carries its event's id and time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp
import pydantic_core
from standardwebhooks import Webhook

from support_service.core.errors import Unavailable
from support_service.database import Database, Row
from support_service.events import store
from support_service.events.envelope import STRUCTURED_MEDIA_TYPE
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments

POLL_INTERVAL = 0.5  # polling interval for due deliveries, in seconds
MAX_CONCURRENT_DELIVERIES = 16  # concurrent deliveries per endpoint
DELIVERY_TIMEOUT = 15.0  # seconds for an endpoint to respond
FIRST_RETRY_DELAY, MAX_RETRY_DELAY = (
    5.0,
    4 * 3600.0,
)  # first and maximum delay in seconds; each delay is three times the last
RETRY_PERIOD = timedelta(days=1)
RETENTION = {"delivered": timedelta(days=1), "failed": timedelta(days=30)}  # retention of finished deliveries, by state
PURGE_BATCH = 500  # deliveries deleted per transaction

GONE_REASON = "It answered 410: it wants no more of this."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A webhook endpoint: its URL, signing secret and subscribed event types. No types means all types."""

    name: str
    url: str
    secret: str
    types: tuple[str, ...] = ()


class WebhookSender:
    """Makes due deliveries while `leads` returns True, i.e. while this process holds the relay's lease."""

    def __init__(
        self,
        database: Database,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        endpoints: Iterable[WebhookEndpoint],
        leads: Callable[[], bool],
    ) -> None:
        self._database = database
        self._session = session
        self._instruments = instruments
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._leads = leads
        self._pending: int | None = None
        instruments.observe(rows.WEBHOOK_PENDING, lambda: [] if self._pending is None else [(self._pending, {})])

    async def run(self) -> None:
        """Deliver until cancelled, with one task per endpoint, so that a slow endpoint does not delay the others."""
        async with asyncio.TaskGroup() as group:
            for name in (*self._endpoints, None):
                group.create_task(self._deliver_loop(name))

    async def _deliver_loop(self, name: str | None) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            try:
                while self._leads() and await self.deliver(name) == MAX_CONCURRENT_DELIVERIES:
                    pass
            except Unavailable as failure:
                log.warning("Webhooks wait for the database: %s", failure)
            except Exception:
                log.exception("Delivering to webhooks failed; it goes on")

    async def refresh(self) -> None:
        """Read the number of pending deliveries for the gauge, and delete old finished ones in small transactions."""
        self._pending = await store.count_pending_deliveries(self._database)
        for ended, kept in RETENTION.items():
            forgotten = PURGE_BATCH
            while self._leads() and forgotten == PURGE_BATCH:
                async with self._database.transaction() as tx:
                    forgotten = await store.delete_old_deliveries(tx, ended, datetime.now(UTC) - kept, PURGE_BATCH)

    async def deliver(self, name: str | None) -> int:
        """Make up to AT_ONCE due deliveries to an endpoint, and store each result. Return the number of deliveries.

        If `name` is None, fail the due deliveries to endpoints that are no longer configured.
        """
        now = datetime.now(UTC)
        if name is None:
            due = await store.orphaned_deliveries(self._database, now, list(self._endpoints), MAX_CONCURRENT_DELIVERIES)
        else:
            due = await store.due_deliveries(self._database, now, name, MAX_CONCURRENT_DELIVERIES)
        # All deliveries finish before an error is raised: one in progress must not be started a second time.
        for failure in await asyncio.gather(*map(self._deliver, due), return_exceptions=True):
            if failure is not None:
                raise failure
        return len(due)

    async def _deliver(self, row: Row) -> None:
        """Make one delivery and store its result: delivered, failed, or pending with the time of the next try."""
        seq, name, event, tries, since = row
        endpoint = self._endpoints.get(name)
        reason = await self._post(endpoint, event) if endpoint else f"No endpoint is called {name!r} any more."
        now = datetime.now(UTC)
        wait = min(MAX_RETRY_DELAY, FIRST_RETRY_DELAY * 3.0**tries) * random.uniform(0.8, 1)
        due = now + timedelta(seconds=wait)
        if reason is None:
            state, due = "delivered", now
        elif endpoint is None or reason == GONE_REASON or due > since + RETRY_PERIOD:
            state, due = "failed", now
            log.warning("A webhook delivery to %s is given up: %s", name, reason)
        else:
            state = "pending"
        outcome = {"delivered": "delivered", "failed": "failed", "pending": "retried"}[state]
        self._instruments.webhook_deliveries.add(1, {"outcome": outcome})
        result = {"delivery": seq, "new_state": state, "new_tries": tries + 1, "new_due": due, "new_reason": reason}
        async with self._database.transaction() as tx:
            await store.store_delivery_result(tx, result)

    async def _post(self, endpoint: WebhookEndpoint, event: str) -> str | None:
        """POST an event to an endpoint. Return None if it was accepted, else the reason."""
        try:
            async with self._session.post(
                endpoint.url,
                data=event.encode(),
                headers=signed_headers(endpoint.secret, event),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT),
            ) as response:
                if response.status < HTTPStatus.MULTIPLE_CHOICES:
                    return None
                return GONE_REASON if response.status == HTTPStatus.GONE else f"It answered {response.status}."
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            return f"{type(failure).__name__} {failure}".strip()[:255]


def signed_headers(secret: str, event: str) -> dict[str, str]:
    """Return the headers of a delivery: event id, time of this try, and the signature over both and the body."""
    at = datetime.now(UTC)
    event_id = pydantic_core.from_json(event)["id"]
    return {
        "Content-Type": STRUCTURED_MEDIA_TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, event),
    }

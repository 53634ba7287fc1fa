"""Webhooks: delivers each event to each subscribed endpoint, signed according to Standard Webhooks, retried for a day.

The process that holds the relay's lease also makes the deliveries. Deliveries to one endpoint may arrive out of order;
each carries its event's id and time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from itertools import product
from typing import Any

import aiohttp
import pydantic_core
import sqlalchemy as sa
from standardwebhooks import Webhook

from support_service.core.clock import Backoff, age_in_seconds, utc_now
from support_service.core.part_state import OncallCard
from support_service.events.broker.base import OUTAGES
from support_service.events.envelope import STRUCTURED_MEDIA_TYPE
from support_service.platform.background import Job, Pause, WorkSignal
from support_service.platform.database import Database, Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.statements import delete_in_batches, locked_in_order
from support_service.platform.database.tables import outbox, webhook_deliveries
from support_service.platform.http_client import describe_client_error
from support_service.platform.settings.value_types import WebhookSetting
from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, LastReading, Observations
from support_service.platform.telemetry.logs import WEBHOOK_LOGGER
from support_service.platform.telemetry.traces import UNTRACED, MessageSpans, fail_span

GONE_REASON = "The endpoint responded 410: it accepts no more events."

log = logging.getLogger(WEBHOOK_LOGGER)

WEBHOOK_ATTEMPTS = InstrumentSpec(
    "support.webhook.deliveries",
    "counter",
    "{delivery}",
    "Attempts to deliver an event to a webhook; retried: will be repeated, failed: no more attempts. The endpoints "
    "have the names in `SUPPORT_WEBHOOKS`; other: not configured any more",
    {"endpoint": (OTHER,), "outcome": ("delivered", "retried", "failed")},
)
WEBHOOK_PENDING = InstrumentSpec(
    "support.webhook.pending", "gauge", "{delivery}", "Webhook deliveries that are still to be made"
)
WEBHOOK_OVERDUE_AGE = InstrumentSpec(
    "support.webhook.overdue_age",
    "gauge",
    "s",
    "Time since the first pending delivery to a webhook was due; 0 if none is due",
    {"endpoint": None},
)

DELIVERY_TIMEOUT = 15.0  # seconds for an endpoint to respond
MAX_RETRY_DELAY = 4 * 3600.0  # seconds
RETRY_PERIOD = timedelta(days=1)
REMOVED_AFTER = timedelta(minutes=15)  # an endpoint may be new: during a rollout some replicas have none of its name
RETENTION_DELIVERED = timedelta(days=1)
RETENTION_FAILED = timedelta(days=30)
MAX_CONCURRENT_DELIVERIES = 16  # per endpoint
PURGE_BATCH = 500  # finished deliveries deleted per transaction
GAUGE_MAX_AGE = 60.0  # seconds; what was due before an outage of the database is not overdue because of it


@dataclass(frozen=True, slots=True)
class WebhookTimings:
    """Intervals in seconds."""

    batch_interval: float = 0.1  # between two batches to an endpoint at least
    poll_interval: float = 1.0  # for repeated deliveries, and deliveries that another replica has created
    removed_poll_interval: float = 5.0  # for deliveries to endpoints that are not configured any more
    first_retry_delay: float = 5.0  # each delay is three times the last
    backoff: Backoff = Backoff(0.5, 5.0)  # while the database is unavailable


class WebhookSender:
    """Makes due deliveries while `is_leader` returns True, i.e. while this process holds the relay's lease.

    `created` is sent when deliveries were created in this process.
    """

    def __init__(
        self,
        database: Database,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        endpoints: Iterable[WebhookSetting],
        is_leader: Callable[[], bool],
        *,
        created: WorkSignal,
        timings: WebhookTimings = WebhookTimings(),
        spans: MessageSpans = UNTRACED,
    ) -> None:
        self._database = database
        self._session = session
        self._instruments = instruments
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._is_leader = is_leader
        self._created = created
        self._timings = timings
        self._spans = spans
        for name, outcome in product(self._endpoints, WEBHOOK_ATTEMPTS.labels["outcome"] or ()):
            instruments.start_series(WEBHOOK_ATTEMPTS, {"endpoint": name, "outcome": outcome})
        self._pending = LastReading[int]()
        instruments.observe(WEBHOOK_PENDING, self._pending.observations(lambda number: [(number, {})]))
        self._select_first_due = sa.select(
            *(_first_due_at(name).label(f"due_{number}") for number, name in enumerate(self._endpoints))
        )
        self._first_due = LastReading[Row](GAUGE_MAX_AGE)
        instruments.observe(WEBHOOK_OVERDUE_AGE, self._first_due.observations(self._observe_overdue))

    def card(self) -> OncallCard:
        """Return what on-call is shown of the deliveries."""
        return OncallCard(self._pending.read_at, {"pending": self._pending.value, "endpoints": list(self._endpoints)})

    async def run(self) -> None:
        """Deliver until cancelled, with one task per endpoint, so that a slow endpoint does not delay the others."""
        timings = self._timings
        pauses: dict[str | None, Pause | float] = {None: timings.removed_poll_interval}
        for name in self._endpoints:
            pauses[name] = Pause(timings.batch_interval, timings.poll_interval, self._created.subscribe())
        async with asyncio.TaskGroup() as group:
            for endpoint, pause in pauses.items():
                job = Job("Delivering webhooks", pause, partial(self._deliver_due, endpoint))
                group.create_task(job.run_with_backoff(timings.backoff, OUTAGES))

    async def _deliver_due(self, name: str | None) -> None:
        """Make due deliveries to an endpoint in batches, until one is not full."""
        while self._is_leader() and await self.deliver(name) == MAX_CONCURRENT_DELIVERIES:
            pass

    async def refresh(self) -> None:
        """Read pending deliveries for the gauges, and delete old finished ones in small transactions."""
        (row,) = await self._database.fetch_all(COUNT_PENDING)
        self._pending.store(int(row.number))
        if self._endpoints:
            (first_due,) = await self._database.fetch_all(self._select_first_due)
            self._first_due.store(first_due)
        await self._delete_finished("delivered", RETENTION_DELIVERED)
        await self._delete_finished("failed", RETENTION_FAILED)

    def _observe_overdue(self, first_due: Row) -> Observations:
        times = first_due._asdict().values()
        return [(age_in_seconds(due), {"endpoint": name}) for name, due in zip(self._endpoints, times, strict=True)]

    async def _delete_finished(self, state: str, retention: timedelta) -> None:
        finished = {"ended": state, "before": utc_now() - retention, "count": PURGE_BATCH}

        async def delete(tx: Transaction) -> int:
            return await tx.execute(DELETE_FINISHED, finished) if self._is_leader() else 0

        if self._is_leader():
            await delete_in_batches(self._database, delete, PURGE_BATCH)

    async def deliver(self, name: str | None) -> int:
        """Make a batch of due deliveries to an endpoint, and store each result. Return the number of deliveries.

        If `name` is None, fail the due deliveries to endpoints without a configuration. Deliveries younger than
        REMOVED_AFTER wait: the endpoint may be a new one that other replicas have.
        """
        chosen = {"now": utc_now(), "count": MAX_CONCURRENT_DELIVERIES}
        if name is None:
            removed = _DELIVERY.endpoint.not_in(list(self._endpoints))
            is_old = _DELIVERY.since < utc_now() - REMOVED_AFTER
            due = await self._database.fetch_all(_SELECT_DUE.where(removed, is_old), chosen)
        else:
            due = await self._database.fetch_all(SELECT_DUE_DELIVERIES, {**chosen, "to": name})
        # All deliveries finish before an error is raised: one in progress must not be started a second time.
        for failure in await asyncio.gather(*map(self._deliver, due), return_exceptions=True):
            if failure is not None:
                raise failure
        return len(due)

    async def _deliver(self, delivery: Row) -> None:
        """Make one delivery and store its result: delivered, failed, or pending with the time of the next try."""
        timings, name = self._timings, delivery.endpoint
        endpoint = self._endpoints.get(name)
        reason = (
            await self._post(endpoint, delivery.event) if endpoint else f"Endpoint {name!r} is not configured any more."
        )
        now = utc_now()
        delay = min(MAX_RETRY_DELAY, timings.first_retry_delay * 3.0**delivery.tries) * random.uniform(0.8, 1)
        due = now + timedelta(seconds=delay)
        if reason is None:
            state, due = "delivered", now
        elif endpoint is None or reason == GONE_REASON or due > delivery.since + RETRY_PERIOD:
            state, due = "failed", now
            self._logger_of_endpoint(name).warning(
                "A webhook delivery to %s failed and is not retried: %s", name, reason
            )
        else:
            state = "pending"
            self._logger_of_endpoint(name).warning("A webhook delivery to %s failed and is retried: %s", name, reason)
        outcome = {"delivered": "delivered", "failed": "failed", "pending": "retried"}[state]
        self._instruments.add(WEBHOOK_ATTEMPTS, 1, {"endpoint": name if endpoint else OTHER, "outcome": outcome})
        result = {"new_state": state, "new_tries": delivery.tries + 1, "new_due": due, "new_reason": reason}
        async with self._database.transaction() as tx:
            before = {"delivery": delivery.seq, "old_tries": delivery.tries, "old_since": delivery.since}
            await tx.execute(UPDATE_DELIVERY, before | result)

    def _logger_of_endpoint(self, name: str) -> logging.Logger:
        """Return the logger of an endpoint: telemetry/logs.py passes a line per minute for each logger."""
        return log.getChild(name) if name in self._endpoints else log

    async def _post(self, endpoint: WebhookSetting, event: str) -> str | None:
        """POST an event to an endpoint. Return None if it was accepted, else the reason."""
        with self._spans.delivering(endpoint.name, event) as trace_headers:
            try:
                async with self._session.post(
                    endpoint.url,
                    data=event.encode(),
                    headers=signed_headers(endpoint.secret, event) | trace_headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT),
                ) as response:
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                fail_span(type(failure).__name__)
                return describe_client_error(failure)[:255]
            if status < HTTPStatus.MULTIPLE_CHOICES:
                return None
            fail_span(str(status))
            return GONE_REASON if status == HTTPStatus.GONE else f"The endpoint responded {status}."


def signed_headers(secret: str, event: str) -> dict[str, str]:
    """Return the headers of a delivery: event id, time of this try, and the signature over both and the body."""
    at = utc_now()
    event_id = pydantic_core.from_json(event)["id"]
    return {
        "Content-Type": STRUCTURED_MEDIA_TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, event),
    }


_NOT_FANNED_OUT = sa.text("NOT fanned_out")  # the same text as in the partial index
SELECT_TO_FAN_OUT = (
    sa.select(outbox.c.seq, outbox.c.type).where(_NOT_FANNED_OUT).order_by(outbox.c.seq).limit(sa.bindparam("count"))
)
_IS_CHOSEN = outbox.c.seq.in_(sa.bindparam("chosen", expanding=True))
MARK_FANNED_OUT = (
    outbox.update()
    .where(locked_in_order(outbox, sa.and_(_IS_CHOSEN, _NOT_FANNED_OUT)))
    .values(fanned_out=sa.true())
    .returning(outbox.c.seq)
)
_DELIVERY = webhook_deliveries.c  # columns of a delivery
_NOW = sa.bindparam("now", type_=UtcDateTime())
INSERT_DELIVERIES = webhook_deliveries.insert().from_select(
    ["endpoint", "type", "event", "case_id", "state", "tries", "since", "due"],
    sa.select(
        sa.bindparam("endpoint", type_=sa.Text),
        outbox.c.type,
        outbox.c.event,
        outbox.c.case_id,
        sa.literal_column("'pending'"),
        sa.literal_column("0"),
        _NOW,
        _NOW,
    )
    .where(_IS_CHOSEN)
    .order_by(outbox.c.seq),
)
_SELECT_DUE = (
    sa.select(_DELIVERY.seq, _DELIVERY.endpoint, _DELIVERY.event, _DELIVERY.tries, _DELIVERY.since)
    .where(_DELIVERY.state == "pending", _DELIVERY.due <= sa.bindparam("now", type_=UtcDateTime()))
    .order_by(_DELIVERY.due)
    .limit(sa.bindparam("count"))
)
SELECT_DUE_DELIVERIES = _SELECT_DUE.where(_DELIVERY.endpoint == sa.bindparam("to"))
UPDATE_DELIVERY = (
    webhook_deliveries.update()
    .where(
        _DELIVERY.seq == sa.bindparam("delivery"),
        # Else it was scheduled again meanwhile, or another replica has made it: that counts.
        _DELIVERY.state == "pending",
        _DELIVERY.tries == sa.bindparam("old_tries"),
        _DELIVERY.since == sa.bindparam("old_since", type_=UtcDateTime()),
    )
    .values(
        {name: sa.bindparam(f"new_{name}", type_=_DELIVERY[name].type) for name in ("state", "tries", "due", "reason")}
    )
)
COUNT_PENDING = (
    sa.select(sa.func.count().label("number")).select_from(webhook_deliveries).where(_DELIVERY.state == "pending")
)


def _first_due_at(endpoint: str) -> sa.ScalarSelect[Any]:
    """Select when the first pending delivery to an endpoint is due: one entry of an index."""
    pending = sa.select(_DELIVERY.due).where(_DELIVERY.endpoint == endpoint, _DELIVERY.state == "pending")
    return pending.order_by(_DELIVERY.due).limit(sa.literal_column("1")).scalar_subquery()


_SELECT_FINISHED = (
    sa.select(_DELIVERY.seq)
    .where(_DELIVERY.state == sa.bindparam("ended"), _DELIVERY.due < sa.bindparam("before", type_=UtcDateTime()))
    .limit(sa.bindparam("count"))
    .with_for_update(skip_locked=True)  # rows locked by an erasure are deleted in a later run
)
DELETE_FINISHED = webhook_deliveries.delete().where(_DELIVERY.seq.in_(_SELECT_FINISHED))


async def read_events_to_fan_out(reader: RowReader, count: int) -> Sequence[Row]:
    """Return the oldest events without webhook deliveries: rows with seq and type."""
    return await reader.fetch_all(SELECT_TO_FAN_OUT, {"count": count})


async def fan_out(
    tx: Transaction, events: Sequence[int], subscriptions: Iterable[tuple[str, Sequence[int]]], now: datetime
) -> None:
    """Insert the webhook deliveries of events, and mark the events as fanned out.

    `subscriptions` holds (endpoint, seqs) pairs: the events that each endpoint subscribes to.
    """
    # Mark first, because this locks the rows: the copies below are made from events that an erasure has rewritten, and
    # of events that no other process has fanned out.
    marked = {row.seq for row in await tx.fetch_all(MARK_FANNED_OUT, {"chosen": events})}
    for endpoint, subscribed in subscriptions:
        chosen = [seq for seq in subscribed if seq in marked]
        if chosen:
            await tx.execute(INSERT_DELIVERIES, {"endpoint": endpoint, "now": now, "chosen": chosen})

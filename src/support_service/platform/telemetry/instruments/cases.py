"""Instruments of cases, their messages, and their service levels."""

from collections.abc import Sequence

from support_service.core.domain import case_vocabulary
from support_service.core.domain.service_levels import TARGETS
from support_service.platform.telemetry.instruments.spec import OTHER, InstrumentSpec

# From a minute, for a chat, to two weeks, for a complaint.
RESPONSE_TIME_BUCKETS = (60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0)


def ticket_created(channels: Sequence[str]) -> InstrumentSpec:
    """Return the counter of opened cases, with a label for each of these channels."""
    labels = {"channel": tuple(dict.fromkeys((*channels, OTHER)))}
    return InstrumentSpec("support.ticket.created", "counter", "{ticket}", "Cases opened, by channel", labels)


TICKET_CREATED = ticket_created(case_vocabulary.CHANNELS)  # further channels are added by SUPPORT_CHANNELS
CONVERSATION_ADDED = InstrumentSpec(
    "support.conversation.added",
    "counter",
    "{message}",
    "Messages added to cases, including the first one of a case",
    {"author_type": case_vocabulary.AUTHOR_TYPES},
)
TICKET_STATUS_CHANGED = InstrumentSpec(
    "support.ticket.status_changed",
    "counter",
    "1",
    "Changes of a case's status, by new status",
    {"status": case_vocabulary.STATUSES},
)
TICKET_OPEN = InstrumentSpec(
    "support.ticket.open",
    "gauge",
    "{ticket}",
    "Open and pending cases in the database",
    {"status": case_vocabulary.ACTIVE_STATUSES, "priority": case_vocabulary.PRIORITIES},
)
TICKET_OLDEST_UNANSWERED = InstrumentSpec(
    "support.ticket.oldest_unanswered",
    "gauge",
    "s",
    "Age of the oldest customer message without an agent's answer, in open and pending cases; 0 if there is none",
    {},
)
TICKET_FIRST_RESPONSE = InstrumentSpec(
    "support.ticket.first_response",
    "histogram",
    "s",
    "Time from a case's opening to the first message of an agent",
    {},
    RESPONSE_TIME_BUCKETS,
)
TICKET_RESOLUTION = InstrumentSpec(
    "support.ticket.resolution",
    "histogram",
    "s",
    "Time from a case's opening until it is resolved, or closed without being resolved",
    {},
    RESPONSE_TIME_BUCKETS,
)
CASE_CACHE_EVENTS = InstrumentSpec(
    "support.case.cache_events",
    "counter",
    "{event}",
    "Reads of a case; hit: it had not changed since this process encoded it, miss: it was encoded",
    {"event": ("hit", "miss")},
)
SLA_BREACHED = InstrumentSpec(
    "support.sla.breached",
    "counter",
    "{clock}",
    "Breaches of service levels that were reported, by target",
    {"target": TARGETS},
)
SLA_RUNNING = InstrumentSpec(
    "support.sla.running",
    "gauge",
    "{clock}",
    "Running clocks of cases in the database, without breached ones",
    {"target": TARGETS},
)
SLA_OLDEST_OVERDUE = InstrumentSpec(
    "support.sla.oldest_overdue",
    "gauge",
    "s",
    "Time since the due time of the longest overdue clock that runs on; 0 if there is none",
    {"target": TARGETS},
)
SLA_USED_SHARE = InstrumentSpec(
    "support.sla.used_share",
    "histogram",
    "1",
    "Working time until the target was reached, as a share of the allowed time; above 1 it was late",
    {"target": TARGETS},
    (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 5.0),
)
SLA_UNREPORTED_AGE = InstrumentSpec(
    "support.sla.unreported_age",
    "gauge",
    "s",
    "Time since the first due time of a clock whose breach is not reported yet; 0 if there is none",
    {},
)

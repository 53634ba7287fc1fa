"""Instruments of service levels."""

from support_service.core.domain.service_levels import TARGETS
from support_service.platform.telemetry.instruments.spec import InstrumentSpec

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

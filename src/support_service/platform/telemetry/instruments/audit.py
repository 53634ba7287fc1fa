"""Instruments of the audit log."""

from support_service.platform.telemetry.instruments.spec import InstrumentSpec

AUDIT_SEALED = InstrumentSpec(
    "support.audit.sealed", "gauge", "{entry}", "Entries of the audit log that have their place in its chain", {}
)
AUDIT_UNSEALED_AGE = InstrumentSpec(
    "support.audit.unsealed_age",
    "gauge",
    "s",
    "Age of the oldest entry of the audit log that is not sealed; 0 if there is none",
    {},
)

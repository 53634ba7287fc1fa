"""Instruments of authentication and of the audit log."""

from support_service.platform.telemetry.instruments.spec import InstrumentSpec

ACCESS_AUTHENTICATIONS = InstrumentSpec(
    "support.access.authentications",
    "counter",
    "{request}",
    "Authentications of requests by outcome; unavailable: keys or tokens can't be read. No values with "
    "SUPPORT_AUTH=open",
    {"outcome": ("accepted", "missing", "invalid", "expired", "unavailable")},
)
ACCESS_TOKENS_AGE = InstrumentSpec(
    "support.access.tokens_age",
    "gauge",
    "s",
    "Time since the token file was last read, or found to be unchanged; 0 without SUPPORT_AUTH=token",
    {},
)
ACCESS_KEYS_AGE = InstrumentSpec(
    "support.access.keys_age",
    "gauge",
    "s",
    "Time since the keys that verify JWTs were last read, or since the first attempt; 0 without JWTs",
    {},
)
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

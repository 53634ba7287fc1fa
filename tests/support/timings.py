"""Generous timings of services under test. Services that run as processes use the defaults."""

from dataclasses import replace

import pytest

from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.relay import RelayTimings
from support_service.guard.fair_turns import TurnLimits
from support_service.oncall.judge import OncallTimings
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.timings import ApiTimings, EventTimings, Timings
from tests.support.calls import GENEROUS_TIMEOUT

PATIENT_POSTGRES = PostgresTimings(
    connect_timeout=6 * GENEROUS_TIMEOUT,
    pool_timeout=6 * GENEROUS_TIMEOUT,
    lock_timeout=6 * GENEROUS_TIMEOUT,
    driver_margin=6 * GENEROUS_TIMEOUT,
)
PATIENT_DATABASE = DatabaseTimings(postgres=PATIENT_POSTGRES)
PATIENT_API = ApiTimings(
    dependency_interval=3600.0,  # checks count as operations, which tests count too
    ping_timeout=GENEROUS_TIMEOUT / 4,  # less: some pings hang on purpose
    turns=TurnLimits(max_wait=6 * GENEROUS_TIMEOUT),
)
WITHOUT_FIRST_SAMPLE = OncallTimings(first_sample=3600.0)  # it takes as long as the rest of a start
PATIENT_REDIS = RedisBrokerTimings(timeout=2 * GENEROUS_TIMEOUT)


def change_constants(patch: pytest.MonkeyPatch, module: str, **values: object) -> None:
    """Change constants of a module of the service, named without the package."""
    for name, value in values.items():
        patch.setattr(f"support_service.{module}.{name}", value)


def patient_timings(**changes: object) -> Timings:
    patient = Timings(database=PATIENT_DATABASE, events=patient_events(), api=PATIENT_API, oncall=WITHOUT_FIRST_SAMPLE)
    return replace(patient, **changes)


def patient_events(**changes: object) -> EventTimings:
    return replace(EventTimings(broker=PATIENT_REDIS), **changes)


SHORT_LEASE = patient_timings(events=patient_events(relay=RelayTimings(lease_duration=1.0)))
"""Timings with a short lease, so that the lease of a stopped relay expires soon."""

"""Timings of services under test: more time than a busy machine takes. Processes have what operators give."""

from support_service.database.timings import DatabaseTimings, PostgresTimings
from support_service.events.broker.base import RedisBrokerTimings
from tests.support.calls import PATIENCE

PATIENT_POSTGRES = PostgresTimings(connect_timeout=6 * PATIENCE, pool_timeout=6 * PATIENCE, lock_timeout=6 * PATIENCE)
PATIENT_DATABASE = DatabaseTimings(postgres=PATIENT_POSTGRES)
PATIENT_REDIS = RedisBrokerTimings(timeout=2 * PATIENCE)

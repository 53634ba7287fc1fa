"""Every fault of the drill, by what it breaks, and the controls."""

from tests.e2e.drill.faults import (
    clients,
    controls,
    database,
    events,
    files,
    monitoring,
    redis,
    replicas,
    sources,
)

FAULTS = (
    *database.FAULTS,
    *replicas.FAULTS,
    *redis.FAULTS,
    *clients.FAULTS,
    *sources.FAULTS,
    *files.FAULTS,
    *events.FAULTS,
    *monitoring.FAULTS,
    *controls.FAULTS,
)

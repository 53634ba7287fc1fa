"""Metrics of database and Redis operations and of their connection pools, by the semantic conventions."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry.metrics import Histogram

from support_service.telemetry.instruments import EMPTY_MEASUREMENT, Observations
from support_service.telemetry.instruments.stores import CONNECTION_STATES, OTHER_ERROR
from support_service.telemetry.labels import OTHER


class RecordOperation(Protocol):
    """Callback for each finished operation: name, duration in seconds, and error type (empty on success)."""

    def __call__(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record the operation."""


def discard_operation(_operation: str, _seconds: float, _error: str = "", /) -> None:
    """Discard the measurement."""


class OperationMetrics:
    """Recorder of the operations on one system; operation names come from a closed vocabulary."""

    def __init__(self, duration: Histogram, system: str, operations: Iterable[str]) -> None:
        self._duration = duration
        self._success_labels = {name: {"db.system.name": system, "db.operation.name": name} for name in operations}
        for labels in self._success_labels.values():
            duration.record(EMPTY_MEASUREMENT, labels)

    def record(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record an operation and its duration in seconds; `error` is one of ERRORS, or OTHER."""
        labels = self._success_labels[operation]
        if error:
            labels = {**labels, "error.type": OTHER_ERROR if error == OTHER else error}
        self._duration.record(seconds, labels)


def redis_pool_usage(pool: Any) -> tuple[int, int]:
    """Return the (used, idle) connections of a redis-py pool, which has no public method for this."""
    return len(pool._in_use_connections), len(pool._available_connections)  # noqa: SLF001


def connection_counts(pools: Mapping[str, Callable[[], tuple[int, int]]]) -> Observations:
    """Return the used and idle connections of each pool, by pool name."""
    return [
        (number, {"db.client.connection.pool.name": name, "db.client.connection.state": state})
        for name, count in pools.items()
        for state, number in zip(CONNECTION_STATES, count(), strict=True)
    ]

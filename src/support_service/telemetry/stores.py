"""Operations on the database and on Redis, as the semantic conventions see them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry.metrics import Histogram

from support_service.telemetry.instruments import NOTHING, Reading
from support_service.telemetry.labels import CONNECTION_STATES, OTHER, OTHER_ERROR


class Measure(Protocol):
    """Is told of each operation: its name, its seconds, and the kind of error that ended it, empty where none did."""

    def __call__(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Take note."""


def unmeasured(_operation: str, _seconds: float, _error: str = "", /) -> None:
    """Take no note."""


class OperationMetrics:
    """Records the operations on one system; each operation's name comes from a closed vocabulary."""

    def __init__(self, duration: Histogram, system: str, operations: Iterable[str]) -> None:
        self._duration = duration
        self._good = {name: {"db.system.name": system, "db.operation.name": name} for name in operations}
        for labels in self._good.values():
            duration.record(NOTHING, labels)

    def record(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Count an operation; `error` is of labels.ERRORS, or labels.OTHER."""
        labels = self._good[operation]
        if error:
            labels = {**labels, "error.type": OTHER_ERROR if error == OTHER else error}
        self._duration.record(seconds, labels)


def pooled(pool: Any) -> tuple[int, int]:
    """(used, idle) connections of a pool of redis-py's, which has no way of its own to tell."""
    return len(pool._in_use_connections), len(pool._available_connections)  # noqa: SLF001


def connections(pools: Mapping[str, Callable[[], tuple[int, int]]]) -> Reading:
    """The connections of each pool by its name, used and idle."""
    return [
        (number, {"db.client.connection.pool.name": name, "db.client.connection.state": state})
        for name, count in pools.items()
        for state, number in zip(CONNECTION_STATES, count(), strict=True)
    ]

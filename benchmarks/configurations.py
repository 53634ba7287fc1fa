"""The configurations in which the scenarios run: the database, protection and the number of replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration of the compared servers.

    All of them use the database. `protected`: the service, and only the service, requires tokens and counts requests
    against rate limits. Several replicas of the service are compared with one, and need PostgreSQL.
    """

    database: str = "sqlite"
    protected: bool = False
    replicas: int = 1

    def __str__(self) -> str:
        """Return its name, such as `postgresql, protected, 2 replicas`."""
        protected = ["protected"] if self.protected else []
        return ", ".join(
            [self.database, *protected, "1 replica" if self.replicas == 1 else f"{self.replicas} replicas"]
        )


DEFAULT = Configuration()
ALL = (
    DEFAULT,
    Configuration(protected=True),
    Configuration("postgresql"),
    *(Configuration("postgresql", protected=True, replicas=replicas) for replicas in (1, 2, 4)),
)


def combine(databases: Sequence[str], replicas: Sequence[int], *, protected: bool) -> list[Configuration]:
    """Return every combination. Raises ValueError for several replicas on SQLite, which has one process."""
    if "sqlite" in databases and max(replicas) > 1:
        raise ValueError("several replicas need --database postgresql")
    return [Configuration(database, protected, count) for database in databases for count in replicas]

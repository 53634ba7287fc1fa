"""Servers of PostgreSQL that a test may break."""

import pytest

from tests.support.sessions import MIGRATED, copied_postgres


@pytest.fixture
def primary(postgres_cluster):
    """A server that accepts changes."""
    with copied_postgres(postgres_cluster) as server:
        yield server


@pytest.fixture
def standby(postgres_cluster, primary):
    """Its synchronous standby; a module may have one of another kind."""
    with copied_postgres(postgres_cluster, primary) as server:
        primary.run(f"ALTER DATABASE {MIGRATED} SET synchronous_commit = on")  # the tests' own setting is off
        primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.run("SELECT pg_reload_conf()")
        yield server

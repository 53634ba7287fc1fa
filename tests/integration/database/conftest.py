"""Servers of PostgreSQL that a test may break."""

import pytest

from tests.support.sessions import copied_postgres, replicate_synchronously


@pytest.fixture
def primary(postgres_cluster):
    with copied_postgres(postgres_cluster) as server:
        yield server


@pytest.fixture
def standby(postgres_cluster, primary):
    with copied_postgres(postgres_cluster, primary) as server:
        replicate_synchronously(primary)
        yield server

"""An issuer of JWTs, and a provider with services whose users sign in there. A module shares them."""

import shutil

import pytest
import pytest_asyncio
import sqlalchemy as sa

from support_service.platform.database.tables import console_sessions, console_sign_ins
from tests.support.access.fixtures import issuer  # noqa: F401 - fixtures
from tests.support.access.provider import FakeProvider
from tests.support.access.sign_in import EAGER, PATIENT, timings, variables_of
from tests.support.service import service_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_provider():
    provider = FakeProvider()
    await provider.open()
    yield provider
    await provider.close()


@pytest_asyncio.fixture(loop_scope="module")
async def provider(running_provider):
    """The provider, which does as at first."""
    await running_provider.reset()
    return running_provider


@pytest.fixture(scope="module")
def variables(running_provider, sqlite_template, tmp_path_factory):
    """The variables of services with one database, whose users sign in at the provider."""
    folder = tmp_path_factory.mktemp("sign-in")
    database = f"sqlite:///{shutil.copy(sqlite_template, folder / 'support.db')}"
    return variables_of(running_provider, folder) | {"SUPPORT_DATABASE_URL": database}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(make_shared_client, variables):
    return [await make_shared_client(**variables, timings=timings(each)) for each in (PATIENT, EAGER)]


@pytest_asyncio.fixture(loop_scope="module")
async def client(replicas, provider):
    """A browser with a service whose users sign in at the provider. Nobody has signed in yet."""
    for each in replicas:
        each.session.cookie_jar.clear()
    for table in (console_sessions, console_sign_ins):
        await service_of(replicas[0]).database.execute(sa.delete(table))
    return replicas[0]


@pytest.fixture
def eager(client, replicas):
    """A browser with another replica, which asks the provider for a newer ID token at each request."""
    return replicas[1]

"""How the service signs in to PostgreSQL: with a password in a file, over TLS, and with a client certificate."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database.migrate import read_schema_status, upgrade
from support_service.platform.database.shared import open_database
from support_service.platform.settings import Settings
from tests.support.calls import eventually
from tests.support.certificates import CertificateAuthority
from tests.support.process import running
from tests.support.sessions import MIGRATED, copied_postgres
from tests.support.timings import PATIENT_DATABASE

RULES = """
hostssl all certified 127.0.0.1/32 cert
hostssl all encrypted 127.0.0.1/32 scram-sha-256
hostnossl all encrypted 127.0.0.1/32 reject
host all plain 127.0.0.1/32 scram-sha-256
"""
WHO = sa.text("SELECT current_user AS name, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(postgres_cluster, authority):
    with copied_postgres(postgres_cluster) as server:
        for name in ("certified", "encrypted", "plain"):
            server.run(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'first'")
        server.require(RULES, authority.issue(timedelta(days=1)), authority.certificate)
        yield server


@pytest.fixture
def settings(server, tmp_path):
    """Returns the settings of the database for a user, with a password in a file."""
    (tmp_path / "password").write_text("first\n")

    def settings(user, options=""):
        host = urlsplit(server.url()).netloc.rpartition("@")[2]
        variables = {"URL": f"postgresql://{user}@{host}/{MIGRATED}?{options}"}
        if user != "certified":
            variables["PASSWORD_FILE"] = str(tmp_path / "password")
        return Settings.load({f"SUPPORT_DATABASE_{name}": value for name, value in variables.items()}).database

    return settings


async def test_password_in_a_file_is_replaced_without_a_restart(server, settings, tmp_path):
    """The next connection has the new one. Migrations and the version of the schema take it, too."""
    given = settings("plain")
    async with open_database(given, pool_size=1, timings=PATIENT_DATABASE) as database:
        server.run("ALTER ROLE plain PASSWORD 'second'")
        (tmp_path / "password").write_text("second")
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain'")

        async def reads():
            try:
                return await database.fetch_now(WHO)
            except Unavailable:
                return None

        assert (await eventually(reads)).name == "plain"
    assert await asyncio.to_thread(upgrade, given.url) == await asyncio.to_thread(read_schema_status, given.url)
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(Unavailable, match="password authentication failed"):
        await asyncio.to_thread(read_schema_status, given.url)
    server.run("ALTER ROLE plain PASSWORD 'first'")


@pytest.mark.usefixtures("processes")  # the driver leaves the connections of failed handshakes to the end of a process
async def test_refused_handshake_names_its_reason(settings, authority, tmp_path):
    """A server of an unknown authority, a client without encryption, and the certificate of another user."""
    (tmp_path / "other").mkdir()
    stranger = CertificateAuthority(tmp_path / "other").certificate
    foreign = authority.issue(timedelta(days=1), "plain")
    trust = f"sslmode=verify-full&sslrootcert={authority.certificate}"
    for given, reason in (
        (settings("encrypted", f"sslmode=verify-full&sslrootcert={stranger}"), "certificate verify failed"),
        (settings("encrypted", "sslmode=disable"), "pg_hba.conf rejects connection"),
        (settings("certified", f"{trust}&sslcert={foreign}&sslkey={foreign}"), "certificate authentication failed"),
    ):
        for command in ("migrate", "serve"):
            async with running(command, cwd=tmp_path, SUPPORT_DATABASE_URL=given.url) as process:
                status, _, errors = await process.wait_for_exit()
            assert status
            assert reason in errors
            assert "password" not in errors


async def test_server_is_verified_and_clients_sign_in_by_certificates(settings, authority):
    """Over TLS, by an authority that the URL names; also by migrations. A certificate has the name of the user."""
    certificate = authority.issue(timedelta(days=1), "certified")
    trust = f"sslmode=verify-full&sslrootcert={authority.certificate}"
    for user, options in (("encrypted", ""), ("certified", f"&sslcert={certificate}&sslkey={certificate}")):
        given = settings(user, trust + options)
        assert await asyncio.to_thread(upgrade, given.url) == "newest"
        async with open_database(given, pool_size=1, timings=PATIENT_DATABASE) as database:
            assert tuple(await database.fetch_now(WHO)) == (user, True)

"""PostgreSQL with the service's database, which belongs to a role that is not a superuser."""

import asyncio
import atexit
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from alembic.script import ScriptDirectory
from observability.drill import DATABASE_AND_ROLE

from support_service.platform.database import migrate
from tests.support.process import environment
from tests.support.servers import PostgresServer

NAME = DATABASE_AND_ROLE
# For three replicas with pools of up to 25, and for what is left of the sessions of a replica that was replaced.
MAX_CONNECTIONS = 120


class Database:
    """A server of its own, with the schema of the service."""

    def __init__(self, folder: Path) -> None:
        # What is acknowledged outlives a server that is killed.
        self.server = _copy_of_cluster(folder, synchronous_commit="on")
        self.url = _url_of(self.server)

    @property
    def psql(self) -> dict[str, str]:
        """The variables by which `psql` of the pages is the superuser."""
        address = urlsplit(self.server.url())
        return {"PGHOST": str(address.hostname), "PGPORT": str(address.port), "PGUSER": str(address.username)}

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def run(self, statements: str) -> str:
        """Run statements as the superuser; return psql's unaligned output."""
        return await asyncio.to_thread(self.server.run, statements, NAME)

    async def another(self) -> str:
        """Return the URL of an empty database on the same server, as that of another environment."""
        await self.run(f"CREATE DATABASE another OWNER {DATABASE_AND_ROLE}")
        url = f"{self.url.rpartition('/')[0]}/another"
        await asyncio.to_thread(migrate.upgrade, url)
        return url

    async def take_back_migration(self) -> None:
        """Return to the schema of the migration before the newest."""
        revisions = ScriptDirectory(Path(migrate.__file__).parent / "migrations")
        before = revisions.get_revision("head").down_revision
        await asyncio.to_thread(migrate.downgrade, self.url, before)

    @asynccontextmanager
    async def holding(self, statement: str) -> AsyncIterator[None]:
        """Keep a transaction of the superuser open for a block, as a person with psql does."""
        connection = await asyncpg.connect(self.server.url(NAME), server_settings={"application_name": "psql"})
        try:
            async with asyncio.timeout(60):
                await connection.execute(f"BEGIN; {statement}")
            yield
        finally:
            await connection.close()

    @asynccontextmanager
    async def trigger(self, when: str, action: str) -> AsyncIterator[None]:
        """Run an action in PL/pgSQL `when` rows change, such as `BEFORE INSERT ON tickets`, for a block."""
        table = when.rsplit(maxsplit=1)[-1]
        body = f"BEGIN {action}; RETURN new; END"
        await self.run(
            f"CREATE FUNCTION drill() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$;"
            f"CREATE TRIGGER drill {when} FOR EACH ROW EXECUTE FUNCTION drill()"
        )
        yield
        await self.run(f"DROP TRIGGER drill ON {table}; DROP FUNCTION drill()")


def _copy_of_cluster(folder: Path, **settings: object) -> PostgresServer:
    folder.mkdir()
    return PostgresServer(folder, _migrated_cluster(), max_connections=MAX_CONNECTIONS, **settings)


def _url_of(server: PostgresServer) -> str:
    return server.url(NAME).replace("tests@", f"{DATABASE_AND_ROLE}@")


@cache
def _migrated_cluster() -> Path:
    """Return the folder of a stopped server with the migrated database, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="support-drill-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = PostgresServer(folder)
    server.start()
    try:
        server.run(f"CREATE ROLE {DATABASE_AND_ROLE} LOGIN")
        server.run(f"CREATE DATABASE {NAME} OWNER {DATABASE_AND_ROLE}")
        url = server.url(NAME).replace("tests@", f"{DATABASE_AND_ROLE}@")
        command = (sys.executable, "-m", "support_service", "migrate")
        subprocess.run(command, env=environment(SUPPORT_DATABASE_URL=url), stdout=subprocess.DEVNULL, check=True)
    finally:
        server.close()
    return folder

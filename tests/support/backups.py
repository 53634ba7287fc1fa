"""Databases that are backed up and restored as docs/operations/backup.md says, each in another way."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from support_service.platform.database import migrate
from tests.support.process import run
from tests.support.servers import PostgresServer, find_binary
from tests.support.sessions import in_thread


class SqliteFile:
    """A database of SQLite, backed up by the command while the service runs."""

    def __init__(self, folder: Path, _: Path) -> None:
        self._folder = folder
        self._file, self._backup = folder / "support.db", folder / "backups" / "support.db"
        self._backup.parent.mkdir()
        self.url = f"sqlite:///{self._file}"

    async def back_up(self, variables: dict[str, str]) -> None:
        status, _, errors = await run("backup", str(self._backup), cwd=self._folder, **variables)
        assert (status, errors) == (0, "")

    async def restore(self) -> None:
        """Replace the database by the backup; the service has stopped."""
        for former in self._folder.glob("support.db*"):
            former.unlink()
        shutil.copy(self._backup, self._file)

    def close(self) -> None:
        """Do nothing: there is no server."""


class PostgresDump:
    """A database of PostgreSQL, backed up by pg_dump. Its role `support` is no superuser."""

    def __init__(self, folder: Path, migrated: Path, **settings: object) -> None:
        self._dump = folder / "support.dump"
        (folder / "cluster").mkdir()
        self.server = PostgresServer(folder / "cluster", migrated, **settings)
        self.server.start()
        self.server.run("CREATE ROLE support LOGIN")
        self._create_database()
        in_thread(migrate.upgrade, self.url)

    @property
    def url(self) -> str:
        return self.server.url("support").replace("tests@", "support@")

    async def back_up(self, _: dict[str, str]) -> None:
        postgres("pg_dump", "--format=custom", f"--file={self._dump}", self.url)

    async def restore(self) -> None:
        """Replace the database by the dump."""
        self.server.drop_database("support")
        self._create_database()
        postgres("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={self.url}", str(self._dump))

    def _create_database(self) -> None:
        self.server.run("CREATE DATABASE support OWNER support TEMPLATE template0")

    def close(self) -> None:
        self.server.close()


class PointInTime(PostgresDump):
    """A cluster of PostgreSQL with a base backup and an archive of its log, restored to a time."""

    def __init__(self, folder: Path, migrated: Path) -> None:
        self._archive, self._base = folder / "archive", folder / "restored"
        for each in (self._archive, self._base):
            each.mkdir()
            hand_over(each)
        copy = f"test ! -f {self._archive}/%f && cp %p {self._archive}/%f"
        super().__init__(folder, migrated, archive_mode="on", archive_command=copy, fsync="on", full_page_writes="on")
        data = self._base / "data"
        postgres("pg_basebackup", "--checkpoint=fast", f"--pgdata={data}", f"--dbname={self.server.url()}", owned=True)

    async def back_up(self, _: dict[str, str]) -> None:
        """Note the time: the base backup was made before, and the archive has all changes since."""
        self._time = self.server.run("SELECT clock_timestamp()")

    async def restore(self) -> None:
        """Start the base backup as another server, which applies the archived log up to the time."""
        self.server.run("SELECT pg_switch_wal()")
        self.server.stop()  # archives what is left
        self.server = PostgresServer(
            self._base,
            restore_command=f"cp {self._archive}/%f %p",
            recovery_target_time=self._time,
            recovery_target_action="promote",
        )
        (self._base / "data" / "recovery.signal").touch()
        hand_over(self._base / "data" / "recovery.signal")
        self.server.start()
        while self.server.run("SELECT pg_is_in_recovery()") == "t":
            pass


def postgres(program: str, *arguments: str, owned: bool = False) -> None:
    """Run a program of PostgreSQL; `owned` as the account that runs the server, if that is another one."""
    directories = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    account = {"user": "postgres", "group": "postgres"} if owned and os.geteuid() == 0 else {}
    command = [find_binary(program, *map(str, directories)), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **account)
    assert done.returncode == 0, done.stderr


def hand_over(path: Path) -> None:
    """Give a file to the account that runs PostgreSQL."""
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(path, account.pw_uid, account.pw_gid)

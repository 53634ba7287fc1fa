"""PgBouncer: in transaction mode it gives each transaction of a client any of a few sessions of the server."""

import os
import pwd
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import find_binary, free_port, wait_until_ready

SESSIONS = 3  # with the server, for any number of clients
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port} user=tests

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
max_prepared_statements = 0
unix_socket_dir =
"""


class PgBouncer:
    """A pooler on a free port before the server of a database URL; root runs it as the user `postgres`."""

    def __init__(self, folder: Path, database_url: str, mode: str) -> None:
        server = urlsplit(database_url)
        self._port = free_port()
        self._path = server.path
        folder.mkdir()
        configuration, log = folder / "pgbouncer.ini", folder / "pgbouncer.log"
        configuration.write_text(
            CONFIGURATION.format(server_port=server.port, port=self._port, mode=mode, sessions=SESSIONS),
            encoding="utf-8",
        )
        user = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            user = {"user": account.pw_name, "group": account.pw_gid, "extra_groups": []}
        with log.open("ab") as output, configuration.open("rb") as settings:
            # Through a descriptor, because the user `postgres` can't enter the folders of tests.
            path = f"/dev/fd/{settings.fileno()}"
            self._process = subprocess.Popen(
                [find_binary("pgbouncer", "/usr/sbin"), path],
                stdout=output,
                stderr=output,
                cwd="/",
                pass_fds=[settings.fileno()],
                **user,
            )
        try:
            wait_until_ready(self._is_ready, self._process, log)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The URL of the database through the pooler."""
        return f"postgresql://tests@127.0.0.1:{self._port}{self._path}"

    def close(self) -> None:
        """Kill the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True

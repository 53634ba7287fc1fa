"""PgBouncer: in transaction mode it gives each transaction of a client any of a few sessions of the server."""

import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from tests.support.servers import Server, accepts, find_binary, free_port, wait_until_ready

RELOADED = "got SIGHUP, re-reading config"
SESSIONS = 3  # with the server, for any number of clients
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port} user=tests

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
default_pool_size = {sessions}
unix_socket_dir =
"""


class PgBouncer(Server):
    """A pooler on a free port before the server of a database URL; root runs it as the user `postgres`.

    `settings` are added to its configuration; `configuration` replaces it, with the files that it names.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        mode: str = "transaction",
        *,
        configuration: str = CONFIGURATION,
        files: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
        **settings: object,
    ) -> None:
        server = urlsplit(database_url)
        self.port = port or free_port()
        self._path = server.path
        folder.mkdir()
        self._file = folder / "pgbouncer.ini"
        self._log = folder / "pgbouncer.log"
        text = configuration
        if configuration is CONFIGURATION:
            text = configuration.format(server_port=server.port, port=self.port, sessions=SESSIONS)
            settings = {"pool_mode": mode, "max_prepared_statements": 0} | settings
            text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        with ExitStack() as opened:

            def path_of(name: str, content: str) -> str:
                """Return a path by a descriptor, because the user `postgres` can't enter the folders of tests."""
                (folder / name).write_text(content, encoding="utf-8")
                descriptors.append(opened.enter_context((folder / name).open("rb")).fileno())
                return f"/dev/fd/{descriptors[-1]}"

            descriptors: list[int] = []
            for name, content in files.items():
                text = text.replace(name, path_of(Path(name).name, content))
            path = path_of(self._file.name, text.replace("LISTEN_PORT", str(self.port)))
            user = {}
            if os.geteuid() == 0:
                account = pwd.getpwnam("postgres")
                user = {"user": account.pw_name, "group": account.pw_gid, "extra_groups": []}
            command = [find_binary("pgbouncer", "/usr/sbin"), path]
            is_ready = partial(accepts, self.port)
            self.launch(command, is_ready, self._log, cwd="/", pass_fds=descriptors, **user)

    @property
    def url(self) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}{self._path}"

    def reload(self, **settings: object) -> None:
        """Read changed settings without a restart, and wait until they are valid."""
        text = self._file.read_text(encoding="utf-8")
        self._file.write_text(text + "".join(f"{name} = {value}\n" for name, value in settings.items()), "utf-8")
        reloads = self._log.read_text(encoding="utf-8").count(RELOADED)
        self._process.send_signal(signal.SIGHUP)
        wait_until_ready(
            lambda: self._log.read_text(encoding="utf-8").count(RELOADED) > reloads, self._process, self._log
        )

"""Real servers for the tests, started on free ports and ended by their process ids.

A missing binary fails the run and reports how to install it; nothing is skipped.
"""

import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import redis

START_TIMEOUT = 120.0  # seconds, on a busy machine
PORTS = range(10_000, 32_000)  # below the ephemeral ports, which Linux may assign to other servers

# Each run starts at another port, and its workers so far apart that their ports do not overlap.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
_ports = itertools.count((os.getppid() * 997 + int(_worker) * 2000) if _worker else os.getpid() * 997)


class MissingServer(Exception):
    """A server that the tests need is not installed."""


def find_binary(name: str, *directories: str) -> str:
    """Return the path of a server's binary; raise MissingServer with the way to install it."""
    found = shutil.which(
        name, path=os.pathsep.join([*directories, os.environ.get("PATH", ""), "/usr/bin", "/usr/sbin"])
    )
    if found is None:
        raise MissingServer(f"The tests need {name}, which is not installed: run `make services` first.")
    return found


def free_port() -> int:
    """Return a loopback port that is free, and that the system does not assign to others before it is used."""
    for number in _ports:
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port := PORTS[number % len(PORTS)]))
            except OSError:
                continue
            return port
    raise AssertionError("an endless count ended")


def wait_until_ready(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process that can be killed, frozen and started again."""

    _process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[object], is_ready: Callable[[], bool], log: Path, **options: Any) -> None:
        """Start a command, whose output goes to the log, and wait until it is ready."""
        with log.open("ab") as output:
            self._process = subprocess.Popen([*command], stdout=output, stderr=output, **options)
        try:
            wait_until_ready(is_ready, self._process, log)
        except BaseException:
            self.kill()
            raise

    def is_running(self) -> bool:
        """Return whether the server has not ended; it may be frozen."""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """Suspend the server: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self.kill()

    def _signal(self, number: int) -> None:
        self._process.send_signal(number)


class RedisServer(Server):
    """A Redis, by default without persistence, that can be killed, frozen and restarted at the same address.

    `program` is `redis` or `valkey`. `options` are of the server, with underscores in the place of hyphens.
    """

    def __init__(self, folder: Path, program: str = "redis", **options: object) -> None:
        self._binary = find_binary(f"{program}-server")
        self._options = {"appendonly": "no"} | {name.replace("_", "-"): value for name, value in options.items()}
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server unless it runs; without persistence it is empty."""
        if self.is_running():
            return
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": self._folder} | self._options
        arguments = [part for name, value in options.items() for part in (f"--{name}", *(str(value).split() or [""]))]
        self.launch([self._binary, *arguments], self._is_ready, self._folder / "redis.log")

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def run(self, *command: str) -> object:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            return client.execute_command(*command)

    def _is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class PostgresServer(Server):
    """A PostgreSQL cluster for the tests; root runs it as the user `postgres`, as PostgreSQL requires.

    `settings` replace the settings of the tests, which flush nothing. The data is what the folder has, or a copy of
    that of another cluster that is stopped, by its folder; otherwise it is empty.
    """

    def __init__(self, folder: Path, copied_from: Path | None = None, /, **settings: object) -> None:
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
        directories = [str(path) for path in versions]
        self._initdb, self._postgres, self._psql = (
            find_binary(name, *directories) for name in ("initdb", "postgres", "psql")
        )
        self._folder = folder
        self._settings = settings
        self._port = free_port()
        self._unused: list[str] = []  # databases
        self.variables: dict[str, str] = {}  # of the environment, from the next start on
        self._user: dict[str, str] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._user = {"user": account.pw_name, "group": account.pw_gid, "extra_groups": []}
        if copied_from is not None:
            subprocess.run(["cp", "--archive", copied_from / "data", folder], check=True)
        if (folder / "data").exists():
            return
        subprocess.run(
            [
                *(self._initdb, "-D", folder / "data", "-U", "tests", "-A", "trust"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **self._user,
        )

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tests@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the running server, the parent of its connections."""
        return self._process.pid

    def start(self) -> None:
        """Start the server unless it runs, with its previous data."""
        if self.is_running():
            return
        settings = {"port": self._port, "unix_socket_directories": self._folder, "listen_addresses": "127.0.0.1"}
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": 50}
        settings |= {"max_prepared_transactions": 5}
        settings |= self._settings
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._postgres, "-D", self._folder / "data", *arguments]
        options = {"env": os.environ | self.variables, "cwd": self._folder, **self._user}
        self.launch(command, self._is_ready, self._folder / "postgres.log", **options)

    def follow(self, primary: "PostgresServer") -> None:
        """Make this server, which is stopped and has a copy of the data of `primary`, a standby of it."""
        (self._folder / "data" / "standby.signal").touch()
        self._settings |= {
            "primary_conninfo": f"host=127.0.0.1 port={urlsplit(primary.url()).port} user=tests",
            "wal_retrieve_retry_interval": "100ms",
        }

    def require(self, rules: str, certificate: Path | None = None, authority: Path | None = None) -> None:
        """Let clients sign in by the rules of `pg_hba.conf`; the server has a certificate, and trusts an authority."""
        data, owner = self._folder / "data", (self._folder / "data").stat()
        for source, name in ((certificate, "server.pem"), (authority, "authority.pem")):
            if source is not None:
                shutil.copyfile(source, data / name)
                (data / name).chmod(0o600)
                os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / "pg_hba.conf").write_text(f"local all all trust\n{rules}\n", encoding="utf-8")
        if certificate is not None:
            for name, value in {"cert_file": "server", "key_file": "server", "ca_file": "authority"}.items():
                self.run(f"ALTER SYSTEM SET ssl_{name} = '{value}.pem'")
            self.run("ALTER SYSTEM SET ssl = on")
        self.run("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stop the server without waiting for clients; committed data survives."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def kill(self) -> None:
        """Kill the server and its children, whatever their state."""
        if self.is_running():
            server = psutil.Process(self._process.pid)
            server.suspend()  # so that it can't fork more children
            children = server.children()
            for process in (server, *children):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(children, timeout=START_TIMEOUT)  # they hold the memory that the next server needs

    def close(self) -> None:
        if self.is_running():
            self.thaw()
            self.stop()

    def _signal(self, number: int) -> None:
        # Suspend the server first, so that it can't fork more children.
        server = psutil.Process(self._process.pid)
        server.send_signal(number)
        for child in server.children():
            with suppress(psutil.NoSuchProcess):  # a backend whose client has disconnected ends when it is resumed
                child.send_signal(number)

    def run(self, sql: str, database: str = "postgres", *, before: Sequence[str] = ()) -> str:
        """Run a statement as the superuser, after others; return psql's unaligned output."""
        given = [option for statement in (*before, sql) for option in ("-c", statement)]
        done = subprocess.run(
            [self._psql, "-h", self._folder, "-p", str(self._port), "-U", "tests", "-XAtq", *given, database],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip()

    def create_database(self, template: str = "template0", name: str | None = None) -> str:
        """Create a database as a copy of the template; return its name."""
        name = name or f"t{uuid4().hex}"
        drops = [f"DROP DATABASE {unused} WITH (FORCE)" for unused in self._unused]
        self._unused.clear()
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY", before=drops)
        return name

    def drop_with_the_next(self, name: str) -> None:
        """Drop a database when the next one is created, by the same client."""
        self._unused.append(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, and disconnect its clients."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _is_ready(self) -> bool:
        try:
            return self.run("SELECT 1") == "1"
        except subprocess.CalledProcessError:
            return False


class S3Server(Server):
    """moto's S3 as a process; it stores everything in memory, and is empty after each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        if not self.is_running():
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
            env = {"PATH": os.environ.get("PATH", ""), "AWS_DEFAULT_REGION": "us-east-1", "PYTHONWARNINGS": "ignore"}
            self.launch(command, self._is_ready, self._folder / "s3.log", env=env)

    def create_bucket(self, name: str | None = None) -> str:
        """Create an empty bucket; return its name."""
        name = name or f"b{uuid4().hex}"
        self._call("PUT", f"/{name}")
        return name

    def begin_multipart_upload(self, bucket: str, key: str) -> None:
        """Start a multipart upload that is never completed."""
        self._call("POST", f"/{bucket}/{key}?uploads")

    def multipart_uploads(self, bucket: str) -> list[str]:
        return re.findall("<Key>(.*?)</Key>", self._call("GET", f"/{bucket}?uploads").decode())

    def keys(self, bucket: str) -> list[str]:
        return re.findall("<Key>(.*?)</Key>", self._call("GET", f"/{bucket}").decode())

    def replace(self, bucket: str, key: str, data: bytes) -> None:
        self._call("PUT", f"/{bucket}/{key}", data)

    def _call(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request")
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def _is_ready(self) -> bool:
        try:
            self._call("GET", "/")
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

"""A primary and a replica of Redis that three Sentinels watch, as real processes."""

import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.support.servers import START_TIMEOUT, RedisServer, Server, find_binary, free_port

SERVICE = "support"
NUMBER = 3
QUORUM = 2
# Milliseconds without an answer until a server counts as down. A replica that was without the primary for ten times as
# long is not promoted.
DOWN_AFTER = 2000


class Sentinel(Server):
    """A process that watches the primary at a port."""

    def __init__(self, folder: Path, primary: int, program: str = "redis") -> None:
        folder.mkdir()
        self.port = free_port()
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 5000",
        )
        configuration, log = folder / "sentinel.conf", folder / "sentinel.log"
        configuration.write_text("\n".join(lines))
        command = [find_binary(f"{program}-server"), str(configuration), "--sentinel"]
        self.launch(command, self._answers, log)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class RedisWithSentinels:
    """Two servers, of which one is the primary, and three Sentinels."""

    def __init__(self, folder: Path, program: str = "redis") -> None:
        self._folder = folder
        self._program = program
        self.servers: list[RedisServer] = []
        self._sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        """The URL of a client, which names the Sentinels."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self._sentinels)}/{SERVICE}/0"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", each.port) for each in self._sentinels]

    def start(self) -> None:
        """Start everything, and wait until the Sentinels know each other and the replica."""
        for number in range(2):
            folder = self._folder / f"server-{number}"
            folder.mkdir()
            options = {"replicaof": f"127.0.0.1 {self.servers[0].port}"} if number else {}
            server = RedisServer(folder, appendonly="yes", program=self._program, **options)
            self.servers.append(server)
            server.start()
        self._await(self._replica_is_in_step)
        for number in range(NUMBER):
            folder = self._folder / f"sentinel-{number}"
            self._sentinels.append(Sentinel(folder, self.servers[0].port, self._program))
        self.wait_until_settled()

    def wait_until_settled(self) -> None:
        """Wait until each Sentinel sees a primary, its replica, which is in step, and the other Sentinels."""
        self._await(self._is_settled)

    @property
    def primary(self) -> RedisServer:
        return next(
            each for each in self.servers if each.is_running() and each.run("INFO", "replication")["role"] == "master"
        )

    @property
    def replica(self) -> RedisServer:
        return next(each for each in self.servers if each is not self.primary)

    def close(self) -> None:
        for each in (*self._sentinels, *self.servers):
            each.close()

    def _is_settled(self) -> bool:
        for each in self._sentinels:
            with redis.Redis(port=each.port, socket_timeout=5) as client:
                state = client.sentinel_masters()[SERVICE]
                replicas = client.sentinel_slaves(SERVICE)
            flags = [replica["flags"] for replica in replicas]
            found = (state["num-other-sentinels"], state["flags"], state["port"], flags)
            if found != (NUMBER - 1, "master", self.primary.port, ["slave"]):
                return False
        return self._replica_is_in_step()

    def _replica_is_in_step(self) -> bool:
        primary, replica = (each.run("INFO", "replication") for each in (self.primary, self.replica))
        return replica.get("master_link_status") == "up" and primary["connected_slaves"] == 1

    def _await(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not _is_met(condition):
            if time.monotonic() > deadline:
                raise RuntimeError("The Sentinels have not settled")
            time.sleep(0.05)


def _is_met(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except redis.RedisError:  # a server that gets another role closes its connections
        return False

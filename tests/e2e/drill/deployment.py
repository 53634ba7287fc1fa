"""The deployment in which faults are injected one after another, each with new monitoring without data of the others.

Three replicas share PostgreSQL, Redis, S3, a folder of files and a token file. A load balancer follows their readiness:
clients call it through the ingress, the probe also directly. Prometheus reads each replica's admin port. Faults with
another scenario get a deployment of their own.
"""

import asyncio
import base64
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from observability.drill import EVALUATION_SECONDS, Action, DrillScenario

from support_service.core.domain.upstream_services import url_variable
from tests.e2e.drill.database import Database
from tests.e2e.drill.links import Link
from tests.e2e.drill.load_balancer import LoadBalancer
from tests.e2e.drill.monitoring import Monitoring
from tests.e2e.drill.orchestrator import Orchestrator
from tests.e2e.drill.processes import Probe, Replica, SeparateDisk, run_command
from tests.e2e.drill.traffic import Traffic
from tests.e2e.drill.verdict import AlertsOfNow
from tests.support.access.fixtures import AUDIENCE, ISSUER, Issuer, write_token
from tests.support.access.provider import CLIENT_ID, FakeProvider
from tests.support.alert_receiver import Receiver
from tests.support.attachments.faulty_proxy import FaultyProxy
from tests.support.certificates import CertificateAuthority
from tests.support.servers import RedisServer, S3Server
from tests.support.upstream import SourceService, source_services, url_variables

REPLICAS = 3
SETTLE = 5 * EVALUATION_SECONDS  # of load before the fault, so that every window of the alerts has healthy samples
READ_BACK = 100  # cases and files that were stored during a fault
BUCKET = "case-files"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"drill" * 6).decode()
FAKE_TIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)  # `make services` installs it
EVENTS_DATABASE = "1"  # of Redis: another one than that of the cache, which may be flushed


class Deployment:
    """A running deployment. Faults change its parts: servers, files, replicas, the load, the load balancer."""

    def __init__(self, folder: Path, scenario: DrillScenario) -> None:
        folder.chmod(0o711)  # PostgreSQL runs as another user
        self.folder = folder
        self.scenario = scenario
        self.database = Database(folder / "postgres")
        self.database_clock = folder / "database-clock"
        self.redis = RedisServer(folder)
        self.events = RedisServer(folder) if scenario.separate_events_redis else self.redis
        self.s3 = S3Server(folder)
        self.s3_proxy = FaultyProxy(self.s3.url)
        self.authority = CertificateAuthority(folder)
        self.order_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.sources = source_services(keep_alive=scenario.certificate is None)
        self.issuer = Issuer()
        self.provider = FakeProvider()
        self.receiver = Receiver()
        self.files = folder / "attachments"
        self.files.mkdir()
        self.tokens = folder / "tokens.json"
        self.clock, self.volume = folder / "clock", folder / "volume"  # of the last replica, if it is manipulated
        self.right_clock = folder / "right-clock"  # of other nodes than its own
        self.large_files: list[tuple[str, str]] = []  # as (case, attachment)
        self.load_balancer = LoadBalancer(folder)
        self.orchestrator = Orchestrator(self, folder / "bin")
        self.links: dict[str, Link] = {}  # of the last replica, if it is linked: database, redis, payment
        self.unlinked: dict[str, str] = {}  # its settings without them, as on another node
        self.alerts = AlertsOfNow(self)
        self.disk: SeparateDisk
        self.replicas: list[Replica] = []
        self.oncall_token: str  # of the person on call
        self.probe: Probe
        self.traffic: Traffic
        self.monitoring: Monitoring
        self._prepared: Monitoring | None = None

    @property
    def orders(self) -> SourceService:
        return self.sources["order"]

    @property
    def payments(self) -> SourceService:
        return self.sources["payment"]

    @property
    def events_url(self) -> str:
        return f"{self.events.url.removesuffix('0')}{EVENTS_DATABASE}"

    @property
    def targets(self) -> list[str]:
        return [replica.admin_target for replica in self.replicas]

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Deployment"]:
        """Start all parts with load, except monitoring."""
        async with AsyncExitStack() as stack:
            await self._start_dependencies(stack)
            await stack.enter_async_context(self.alerts.running())
            await self.orchestrator.open()
            stack.push_async_callback(self.orchestrator.close)
            self.traffic = Traffic(self.load_balancer.ingress, self.token("agents"), **self.scenario.load)
            self.oncall_token = self.token("on-call")
            self._configure_curl()
            self.probe = self._probe()
            stack.callback(self.load_balancer.close)
            stack.callback(self.probe.kill)
            for _ in range(REPLICAS):
                stack.callback(self.new_replica().kill)
            if self.scenario.manipulated:
                self._manipulate(self.replicas[-1])
            if self.scenario.linked:
                await self._link(self.replicas[-1], stack)
            await asyncio.gather(*(replica.start() for replica in self.replicas))
            await self.load_balancer.start(self.replicas)
            await self.probe.start()
            await stack.enter_async_context(self.traffic.running())
            stack.push_async_callback(self._close_prepared)
            yield self

    @asynccontextmanager
    async def monitored(self) -> AsyncIterator[None]:
        """Evaluate the rules for a block, by a Prometheus and an Alertmanager without data of what was before."""
        if self._prepared is None:
            await self.prepare_monitoring()
        self.monitoring, self._prepared = self._prepared, None
        self.receiver.forget()
        try:
            await self.monitoring.watch()
            yield
        finally:
            await self.monitoring.close()

    async def prepare_monitoring(self) -> None:
        """Start the Prometheus that `monitored` uses next: it takes 5 s to find its targets."""
        targets = {"support-service": self.targets, "support-probe": [self.probe.target]}
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="monitoring-"))
        self._prepared = Monitoring(folder, targets, self.receiver)
        await self._prepared.open()

    async def _close_prepared(self) -> None:
        if self._prepared is not None:
            await self._prepared.close()

    def new_replica(self) -> Replica:
        replica = Replica(self.folder, len(self.replicas) + 1, self.variables())
        if self.scenario.disk is not None:
            replica.within = self.disk.within
        self.replicas.append(replica)
        return replica

    async def use_all_replicas(self) -> None:
        await self.load_balancer.start(self.replicas)
        await self.monitoring.scrape("support-service", self.targets)

    async def remove_new_replicas(self) -> None:
        """Stop the replicas that a rollout has added to the usual ones."""
        for new in self.replicas[REPLICAS:]:
            new.kill()
        if self.replicas[REPLICAS:]:
            del self.replicas[REPLICAS:]
            await self.use_all_replicas()

    async def take_back(self, actions: Sequence[Action]) -> None:
        """Undo what actions of the pages have left, once the cause is repaired."""
        await self.orchestrator.restore()
        for command in {action.undo for action in actions if action.undo}:
            await self.run(*command.split())

    async def lost(self) -> list[str]:
        """Return what the load was told is stored and is not there, or not as it was sent."""
        opened = {case for case, file in self.traffic.acknowledged if not file}
        stored = set((await self.database.run("SELECT id FROM tickets")).split())
        return [f"case {case} is not in the database" for case in opened - stored] + await self.traffic.lost(READ_BACK)

    async def run(self, *arguments: str) -> str:
        """Run a command of the service in the environment of a replica; return its output, or raise if it fails."""
        return await run_command(arguments, self.replicas[0].environment)

    async def _start_dependencies(self, stack: AsyncExitStack) -> None:
        if self.scenario.disk is not None:
            self.disk = SeparateDisk(self.files, self.scenario.disk)
            stack.callback(self.disk.close)
        servers = {self.database.server, self.redis, self.events, self.s3}
        for server in servers:
            stack.callback(server.close)
        if self.scenario.database_clock:
            self.database.server.variables = _fake_clock(self.database_clock)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        self.s3.create_bucket(BUCKET)
        await self.s3_proxy.start()
        stack.push_async_callback(self.s3_proxy.close)
        if self.scenario.certificate is not None:
            self.order_tls.load_cert_chain(self.authority.issue(self.scenario.certificate))
            self.orders.use_tls(self.order_tls)
        for part in (*self.sources.values(), self.issuer, self.provider, self.receiver):
            await part.open()
            stack.push_async_callback(part.close)

    def _manipulate(self, replica: Replica) -> None:
        self.right_clock.write_text("+0s")
        self.volume.symlink_to(self.files)
        replica.environment |= _fake_clock(self.clock) | {
            "SUPPORT_ATTACHMENT_DIR": str(self.volume),
            "SUPPORT_STOP_DELAY": "3600",
        }

    async def _link(self, replica: Replica, stack: AsyncExitStack) -> None:
        linked = {
            "database": ("SUPPORT_DATABASE_URL",),
            "redis": ("SUPPORT_REDIS_URL", "SUPPORT_EVENTS_REDIS_URL"),
            "payment": (url_variable("payment"),),
        }
        for name, variables in linked.items():
            port = urlsplit(replica.environment[variables[0]]).port
            link = self.links[name] = await stack.enter_async_context(Link(port).open())
            for variable in variables:
                address = self.unlinked[variable] = replica.environment[variable]
                replica.environment[variable] = address.replace(f":{port}", f":{link.port}", 1)

    def _configure_curl(self) -> None:
        """Authenticate the checks of the runbooks, as their README says."""
        (self.folder / ".curlrc").write_text(f'header = "Authorization: Bearer {self.oncall_token}"\n')

    def _probe(self) -> Probe:
        variables = {"SUPPORT_TOKEN": self.token("probe")}
        ways = (f"--base-url={self.load_balancer.address}", f"--ingress-url={self.load_balancer.ingress}")
        return Probe(self.folder, EVALUATION_SECONDS, (*ways, *self.scenario.probe), variables)

    def token(self, caller: str, **fields: object) -> str:
        """Return a token of a supervisor; a JWT is signed with the newest key.

        `fields` are the fields of a token file.
        """
        if self.scenario.jwt:
            return self.issuer.sign(list(self.issuer.keys)[-1], sub=caller, exp=int(time.time()) + 3600)
        return write_token(self.tokens, caller, role="supervisor", **fields)

    def variables(self) -> dict[str, str]:
        """Return the settings of a replica, without its ports."""
        webhook = {"name": "crm", "url": self.receiver.url("/webhook"), "secret": WEBHOOK_SECRET}
        variables = {
            "SUPPORT_WEBHOOKS": json.dumps([webhook]),
            "SUPPORT_DATABASE_URL": self.database.url,
            "SUPPORT_REDIS_URL": self.redis.url,
            "SUPPORT_EVENTS_REDIS_URL": self.events_url,
            "SUPPORT_ATTACHMENT_DIR": str(self.files),
            "SUPPORT_S3_BUCKET": BUCKET,
            "SUPPORT_S3_ENDPOINT": self.s3_proxy.url,
            "SUPPORT_OFFLOAD_AFTER": "30d",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "SUPPORT_TRUSTED_PROXIES": "127.0.0.1",
            "SUPPORT_PROMETHEUS_URL": self.alerts.url,
            "SUPPORT_AUTH": "token",
            "SUPPORT_TOKENS_FILE": str(self.tokens),
        }
        if self.scenario.certificate is not None:
            variables["SSL_CERT_FILE"] = str(self.authority.certificate)
        variables |= url_variables(self.sources)
        if self.scenario.jwt:
            variables |= {
                "SUPPORT_AUTH": "jwt",
                "SUPPORT_JWT_KEYS": self.issuer.jwks_location,
                "SUPPORT_JWT_ISSUER": ISSUER,
                "SUPPORT_JWT_AUDIENCE": AUDIENCE,
            }
        if self.scenario.sign_in:
            secret = self.folder / "client-secret"
            secret.write_text(self.provider.secret)
            variables |= {
                "SUPPORT_OIDC_ISSUER": self.provider.issuer,
                "SUPPORT_OIDC_CLIENT_ID": CLIENT_ID,
                "SUPPORT_OIDC_CLIENT_SECRET_FILE": str(secret),
                "SUPPORT_JWT_ROLE_CLAIM": "groups",
                "SUPPORT_JWT_ROLE_MAP": "support-agents:agent",
            }
        return variables | self.scenario.settings


def _fake_clock(offset: Path) -> dict[str, str]:
    """Return the variables of a process whose clock differs by what a file says, such as `-10s`."""
    offset.write_text("+0s")
    return {
        "LD_PRELOAD": str(FAKE_TIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "FAKETIME_DISABLE_SHM": "1",  # a killed process would leave it in /dev/shm
    }

"""Commands of the pages reach what they are about, in each deployment that the runbooks' README has a block for."""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from support_service.commands.parser import build_parser
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import SOURCES
from support_service.timeline.source_calls import calls_for
from tests.support.promql import ROOT
from tests.support.runbooks.pages import BLOCK, ENGLISH, PAGES, blocks, page_text

DEPLOYMENTS = ("Kubernetes", "Compose", "A process on this machine")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
MANIFESTS = [
    manifest
    for path in sorted((ROOT / "observability" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
COMMANDS = [(page, command) for page in PAGES for command in blocks(page, "sh")]
each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS)


def named(kind):
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


def variables(deployment):
    """The block that sets the variables of a deployment."""
    _, _, after = page_text(ENGLISH, "README.md").partition(f"\n**{deployment}")
    return BLOCK.search(after)[2]


@pytest.fixture
def bash(processes, tmp_path):
    """Runs a script in bash, where `kubectl` and `docker` do nothing; gives what it printed."""
    for name in ("kubectl", "docker"):
        (tmp_path / name).symlink_to("/bin/true")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUPPORT_")}
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), inherited["PATH"]])

    def run(*script, **given):
        done = subprocess.run(
            ["bash", "-euc", "\n".join(script)],
            env=inherited | {"PATH": path} | given,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@each_deployment
def test_variables_of_commands_are_defined(deployment, bash):
    """By the block of each deployment, or by the page itself."""
    asked = []
    for page in [page for page in PAGES if page != "README.md"]:
        commands = re.sub(r"sh -c '[^']*'", "", "\n".join(blocks(page, "sh")))
        own = set(re.findall(r"^([A-Z]+)=", commands, re.MULTILINE))
        own |= {*" ".join(re.findall(r'^read -rp "[a-z ]+: " ([A-Z ]+) &&', commands, re.MULTILINE)).split()}
        asked += [f": ${{{name}?for {page}}}" for name in {*re.findall(r"\$\{?([A-Z_]+)", commands)} - own]
    assert asked
    bash(variables(deployment), *asked, SUPPORT_REDIS_URL="redis://127.0.0.1:9/0")


def test_commands_name_deployed_resources():
    """Deployments, services and containers exist in the manifests and in compose."""
    for page, command in COMMANDS:
        if "-n monitoring" not in command:  # what the Prometheus operator makes
            assert {*re.findall(r"\bdeploy/([a-z-]+)", command)} <= named("Deployment").keys(), (page, command)
            assert {*re.findall(r"\bsvc/([a-z-]+)", command)} <= named("Service").keys(), (page, command)
        restarted = {*re.findall(r"\$RESTART ([a-z-]+)", command)}
        assert restarted <= named("Deployment").keys() & COMPOSE.keys(), (page, command)
        ours = re.findall(
            r"docker compose (?:exec|logs|port|ps|restart|run|up)(?: --?[a-zA-Z-]+(?: 15m)?)* ([a-z-]+)", command
        )
        assert {*ours} <= COMPOSE.keys(), (page, command)
        assert command.count("docker compose ") == len(ours) + command.count('RESTART="docker'), (page, command)


def test_settings_that_actions_change_are_passed_by_compose():
    """A line in `.env` has no effect on a variable that compose.yaml does not name."""
    changed = {
        name
        for _, command in COMMANDS
        for name in re.findall(r"(?<=[ \"])(SUPPORT_\w+)=", command)
        if "$SET " in command
    }
    assert changed >= {"SUPPORT_DATABASE_POOL", "SUPPORT_OFFLOAD_AFTER"}
    passed = COMPOSE["support-service"]["environment"]
    assert [name for name in changed if not str(passed[name]).startswith(f"${{{name}")] == []


@each_deployment
def test_manual_probe_runs_like_the_deployed_one(deployment, bash):
    """With the same token and the same address."""
    command = bash(variables(deployment), "echo $PROBE --once", SUPPORT_REDIS_URL="redis://127.0.0.1:9/0")
    begin, _, end = command.rpartition("support-service probe " if deployment != "Compose" else "probe ")
    asked = build_parser().parse_args(["probe", *shlex.split(end)]).base_url
    if deployment == "Kubernetes":
        (container,) = named("Deployment")["probe"]["spec"]["template"]["spec"]["containers"]
        assert begin.endswith(" deploy/probe -- ")
        assert f"--base-url={asked}" in container["args"]
    if deployment == "Compose":
        assert begin.startswith("docker compose run ")
        assert begin.endswith(" probe ")
        assert f"--base-url={asked}" in COMPOSE["probe"]["command"]


def test_commands_work_while_no_replica_starts():
    """No command enters a container, and the log includes that of the migration."""
    assert [command for page, command in COMMANDS if page == "support-service-down.md" and "$RUN" in command] == []
    assert "--all-containers --ignore-errors" in variables("Kubernetes")
    (log,) = re.findall(r'LOGS="(docker .+)"', variables("Compose"))
    assert {"support-service", *COMPOSE["support-service"]["depends_on"]} - {*log.split()} == {"redis"}


def test_scaling_command_adds_replicas(bash):
    """Also if ten run already."""
    (command,) = {command for _, command in COMMANDS if " scale " in command}
    printed = bash('kubectl() { case $3 in get) echo 10 ;; *) printf "%s\\n" "$*" ;; esac; }', command)
    assert printed.endswith(" scale deploy/support-service --replicas=12\n")


def test_actions_change_settings_and_replace_a_replica(bash, tmp_path):
    """On Kubernetes with one command each, and with Compose by lines in `.env`."""
    shown = 'kubectl() { printf "%s\\n" "$*"; }'
    printed = bash(variables("Kubernetes"), shown, "$SET SUPPORT_DATABASE_POOL=15", "$REPLACE <<< pod-a", "$ROLLBACK")
    assert printed.splitlines() == [
        "-n support set env deploy/support-service SUPPORT_DATABASE_POOL=15",
        "-n support get pods -l app=support-service -o wide",
        "-n support delete pod pod-a",
        "-n support rollout undo deploy/support-service",
    ]
    shown = 'docker() { printf "%s\\n" "$*"; }'
    changed = "$SET SUPPORT_DATABASE_POOL=15 SUPPORT_OFFLOAD_AFTER="
    printed = bash(f"cd {tmp_path}", "printf A=1 > .env", variables("Compose"), shown, changed, "$REPLACE")
    assert printed.splitlines() == ["compose up -d support-service", "compose restart support-service"]
    assert (tmp_path / ".env").read_text() == "A=1\nSUPPORT_DATABASE_POOL=15\nSUPPORT_OFFLOAD_AFTER=\n"


@pytest.fixture
def source():
    """A service behind the timeline that knows nothing; gives its address, and the paths that it was asked for."""
    paths = []

    class Unknown(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Unknown)
    with server, ThreadPoolExecutor(1) as thread:
        thread.submit(server.serve_forever, 0.01)
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


@pytest.mark.parametrize("service", SOURCES)
def test_source_command_calls_the_named_service(service, source, bash):
    """With the address and the request of the timeline."""
    (command,) = [
        command for page, command in COMMANDS if page == "support-timeline-source-down.md" and "_URL" in command
    ]
    address, paths = source
    printed = bash("RUN=", f"{{ {command} 2>&1 || :; }} <<< {service}", **{f"SUPPORT_{service.upper()}_URL": address})
    assert printed.endswith("HTTP Error 404: Not Found\n")
    assert paths == [next(calls_for(SOURCES[service], SourceReferences(("none",)))).path]


@pytest.mark.parametrize("events", ["", "redis://127.0.0.1:9/0"])
@pytest.mark.parametrize("deployment", ["Kubernetes", "A process on this machine"])
def test_redis_commands_print_lines(deployment, events, redis, bash):
    """For `grep`. Events may have a Redis of their own."""
    given = {"SUPPORT_REDIS_URL": redis.url} | ({"SUPPORT_EVENTS_REDIS_URL": events} if events else {})
    asked = ["$REDIS ping", "$REDIS info memory | grep ^maxmemory:", "$EVENTS_REDIS ping || echo refused"]
    answers = bash(variables(deployment), "RUN=", *asked, **given).split()
    assert answers == ["PONG", "maxmemory:0", "refused" if events else "PONG"]

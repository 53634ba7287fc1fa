"""Containers of compose and of Kubernetes match the image, the command line and the routes of the service."""

import re
from pathlib import PurePosixPath

import pytest
import yaml

from support_service import __version__
from support_service.api.routes import ROUTES
from support_service.commands.parser import build_parser
from support_service.core.units import parse_duration
from support_service.platform.settings import Settings
from support_service.server import STOP_TIMEOUT
from tests.support.deployments import (
    COMPOSE,
    DOCKERFILE,
    DOCS,
    KUBERNETES,
    LIBRARY_VARIABLES,
    ROOT,
    SECRET,
    SERVICE_CONTAINERS,
    containers,
    environments,
    known_variables,
    pods,
    resources_of_kind,
)
from tests.support.each import each_row

IMAGE_VARIABLES = dict(re.findall(r"^ +(SUPPORT_[A-Z_]+)=(\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE))
(VOLUME,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
(PORT,) = map(int, re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE))
(USER,) = set(re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE))


def commands():
    found = {f"compose {name}": COMPOSE["services"][name].get("command", ["serve"]) for name in SERVICE_CONTAINERS}
    for pod in pods().values():
        found |= {f"kubernetes {container['name']}": container["args"] for container in containers(pod)}
    return found


def service_settings(where):
    given = environments()[where]
    return Settings.load_to_serve(IMAGE_VARIABLES | given | (SECRET if where == "kubernetes" else {}))


@each_row(
    "path",
    [
        "compose.yaml",
        "Dockerfile",
        "docs/operations/deployment.md",
        *sorted(f"{KUBERNETES.relative_to(ROOT)}/{path.name}" for path in KUBERNETES.glob("*.yaml")),
    ],
)
def test_every_variable_that_is_named_exists(path):
    """Also in comments, in health checks and in text: a name that the service does not read is a mistake."""
    named = set(re.findall(r"\bSUPPORT_[A-Z0-9_]*[A-Z0-9]\b", (ROOT / path).read_text()))
    assert named - known_variables() == set()


def test_settings_page_begins_with_what_each_deployment_sets():
    """The first table is all that a first deployment needs."""
    first = (ROOT / "docs/configuration.md").read_text().split("\n## ")[1]
    by_all = environments()["compose"].keys() & (environments()["kubernetes"].keys() | SECRET.keys())
    common = {name for name in by_all if name.startswith("SUPPORT_")} - {"SUPPORT_OFFLOAD_AFTER", "SUPPORT_STOP_DELAY"}
    assert set(re.findall(r"^\| `(\w+)`", first, re.MULTILINE)) == common


def test_secret_completes_the_settings():
    """The comment names what the Secret holds, and with it the service starts on PostgreSQL, Redis and S3."""
    comment = (KUBERNETES / "support-service.yaml").read_text().partition("apiVersion")[0]
    assert set(re.findall(r"\b(?:SUPPORT|AWS)_[A-Z_]+", comment)) == SECRET.keys()
    assert SECRET.keys() - known_variables() <= LIBRARY_VARIABLES
    assert not SECRET.keys() & environments()["kubernetes"].keys()
    serving = service_settings("kubernetes")
    assert serving.database.url.startswith("postgresql://")
    assert (serving.s3.bucket, serving.warnings) == ("case-files", ())


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_port_is_that_of_the_image(where):
    """The service listens for everyone, on the port that the image exposes and that the deployment publishes."""
    serving = service_settings(where)
    assert (serving.server.host, serving.server.port, serving.access.admin_port) == ("0.0.0.0", PORT, None)
    if where == "compose":
        assert COMPOSE["services"]["support-service"]["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]


def test_services_lead_to_ports_of_their_pods():
    """Each Service selects one pod, and its ports are by name the ports of the pod's containers."""
    deployments = {each["metadata"]["name"]: each for each in resources_of_kind("Deployment")}
    for service in resources_of_kind("Service"):
        labels = service["spec"]["selector"]
        (selected,) = [each for each in deployments.values() if each["spec"]["selector"]["matchLabels"] == labels]
        pod = selected["spec"]["template"]
        assert pod["metadata"]["labels"] == labels
        offered = {port["name"]: port["containerPort"] for each in pod["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == offered
    (budget,) = resources_of_kind("PodDisruptionBudget")
    assert budget["spec"]["selector"] == deployments["support-service"]["spec"]["selector"]
    assert budget["spec"]["minAvailable"] < deployments["support-service"]["spec"]["replicas"]


def test_commands_are_those_of_the_service():
    """The probe is scraped where it listens, and it calls the service by a name and a port that exist."""
    for where, arguments in commands().items():
        build_parser().parse_args([str(argument) for argument in arguments])
        if arguments[0] == "probe":
            options = dict(argument.split("=", 1) for argument in arguments[1:])
            assert options["--base-url"] == f"http://support-service:{PORT}", where
            assert options["--listen"] == "0.0.0.0:9101", where
    (container,) = pods()["probe"]["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": 9101}]


def test_health_is_asked_at_routes_of_the_service():
    """Liveness never depends on the database: a restart would not help. Traffic follows readiness."""
    (container,) = pods()["support-service"]["containers"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    livez, readyz = ({"path": path, "port": "http"} for path in ("/livez", "/readyz"))
    assert asked == {"startupProbe": livez, "livenessProbe": livez, "readinessProbe": readyz}
    assert {each["path"] for each in asked.values()} <= {route.path for route in ROUTES}
    (check,) = re.findall(r"^HEALTHCHECK .+", DOCKERFILE, re.MULTILINE)
    assert "/livez" in check
    assert "SUPPORT_ADMIN_PORT" in check


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_running_requests_may_end(where):
    """A container is killed only after the delay and the timeout with which the service stops."""
    in_compose = parse_duration(COMPOSE["services"]["support-service"]["stop_grace_period"]).total_seconds()
    allowed = in_compose if where == "compose" else pods()["support-service"]["terminationGracePeriodSeconds"]
    server = service_settings(where).server
    assert server.stop_delay + STOP_TIMEOUT < allowed


def test_what_the_service_writes_is_mounted():
    """The root is read-only: files lie in the image's volume or in one of the pod's, tokens in a Secret."""
    compose = service_settings("compose")
    mounted = [volume.partition(":")[2] for volume in COMPOSE["services"]["support-service"]["volumes"]]
    assert mounted == [VOLUME]
    for path in (compose.attachments.directory, compose.access.tokens_file):
        assert PurePosixPath(path).is_relative_to(VOLUME)
    assert COMPOSE["x-service"]["tmpfs"] == ["/tmp"]

    kubernetes = service_settings("kubernetes")
    (container,) = pods()["support-service"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert str(kubernetes.attachments.directory) in mounts
    assert mounts["/tmp"]["name"] == "tmp"
    tokens = PurePosixPath(kubernetes.access.tokens_file)
    assert mounts[str(tokens.parent)]["readOnly"]
    volumes = {volume["name"]: volume for volume in pods()["support-service"]["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in mounts.values()}
    claims = {claim["metadata"]["name"] for claim in resources_of_kind("PersistentVolumeClaim")}
    assert volumes["attachments"]["persistentVolumeClaim"]["claimName"] in claims


def test_user_and_version_are_those_of_the_image():
    """Compose keeps the user, and the pods name it. `make image` builds that tag."""
    (image,) = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"]
    assert (image["name"], image["newTag"]) == ("support-service", __version__)
    assert COMPOSE["x-service"]["image"] == f"support-service:{__version__}"
    assert {each["image"] for pod in pods().values() for each in containers(pod)} == {image["name"]}
    assert f"--tag support-service:{__version__} " in DOCS
    assert f"useradd --uid {USER} " in DOCKERFILE
    assert f"groupadd --gid {USER} " in DOCKERFILE
    assert [name for name in SERVICE_CONTAINERS if "user" in COMPOSE["services"][name]] == []
    for pod in pods().values():
        context = pod["securityContext"]
        assert {str(context[name]) for name in ("runAsUser", "runAsGroup")} == {USER}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(not each["securityContext"]["allowPrivilegeEscalation"] for each in containers(pod))
    assert str(pods()["support-service"]["securityContext"]["fsGroup"]) == USER
    (namespace,) = resources_of_kind("Namespace")
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_memory_is_that_of_the_documentation():
    """The container in which `make image` tests the image gets what the pod of the service gets."""
    (container,) = pods()["support-service"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert f"{limit.removesuffix('Mi')} MiB of memory" in DOCS
    for pod in pods().values():
        for each in containers(pod):
            resources = each["resources"]
            assert int(resources["requests"]["memory"][:-2]) <= int(resources["limits"]["memory"][:-2])
            assert "cpu" not in resources["limits"]


def test_secrets_and_passwords_are_in_the_documentation():
    """The documentation creates each Secret that a pod needs, and each variable that compose insists on."""
    needed = set()
    for pod in pods().values():
        needed |= {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
        for each in containers(pod):
            needed |= {source["secretRef"]["name"] for source in each.get("envFrom", []) if "secretRef" in source}
            needed |= {variable["valueFrom"]["secretKeyRef"]["name"] for variable in each.get("env", [])}
    assert needed == set(re.findall(r"create secret generic (\S+)", DOCS))
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", (ROOT / "compose.yaml").read_text()))
    assert {name for name in required if name not in DOCS} == set()

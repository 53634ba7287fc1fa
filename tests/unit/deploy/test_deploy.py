"""Deployment files match the service: settings, ports, files and names. No container engine is needed."""

import json
import re
import tomllib

import pytest
import yaml

from support_service.platform.settings import Settings
from tests.support.deployments import (
    COMPOSE,
    KUBERNETES,
    LIBRARY_VARIABLES,
    ROOT,
    SERVICE_CONTAINERS,
    environments,
    known_variables,
    resources_of_kind,
)


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_deployed_settings_are_valid(where):
    """Each variable is one that the service reads, and the service accepts the values."""
    given = environments()[where]
    assert given.keys() - known_variables() - LIBRARY_VARIABLES == set()
    Settings.load_to_serve(given)


def test_trusted_proxies_can_be_configured():
    """Compose passes the value of `.env`, and the manifest shows where to set it."""
    assert Settings.load(environments()["compose"]).limits.trusted_proxies == ()
    assert COMPOSE["x-environment"]["SUPPORT_TRUSTED_PROXIES"] == "${SUPPORT_TRUSTED_PROXIES:-}"
    manifest = (KUBERNETES / "support-service.yaml").read_text()
    (shown,) = re.findall(r"^ +# (SUPPORT_TRUSTED_PROXIES: .+)$", manifest, re.MULTILINE)
    assert Settings.load(environments()["kubernetes"] | yaml.safe_load(shown)).limits.trusted_proxies


def test_jobs_that_remove_files_can_be_disabled():
    """The empty settings of the runbook about damaged files disable offload and retention."""
    given = environments()["compose"]
    assert Settings.load(given).s3.offload_after
    runbook = (ROOT / "runbooks" / "support-attachment-integrity.md").read_text()
    (emptied_settings,) = re.findall(r"^\$SET ((?:SUPPORT_\w+=(?: |$))+)", runbook, re.MULTILINE)
    emptied = dict.fromkeys(emptied_settings.replace("=", "").split(), "")
    for name in emptied:
        assert re.fullmatch(rf"\$\{{{name}-[^}}]*}}", COMPOSE["x-environment"][name])
    stopped = Settings.load(given | emptied)
    assert (stopped.s3.offload_after, stopped.attachments.retention) == (None, None)


def test_every_image_is_pinned():
    """A tag can be moved to another image, a digest can't. The tag says what it is, and is not `latest`."""
    ours = COMPOSE["x-service"]["image"]
    assert re.fullmatch(r"support-service:\d+\.\d+\.\d+", ours)
    dockerfile = (ROOT / "Dockerfile").read_text()
    default, base, *others = re.findall(r"^(?:ARG BASE=|FROM )(\S+)", dockerfile, re.MULTILINE)
    assert (default, set(others)) == ("python", {"${BASE}"})
    assert f"FROM {base} AS {default}\n" in dockerfile
    images = {service["image"] for service in COMPOSE["services"].values()} - {ours}
    images.add(base)
    for path in (ROOT / ".github" / "workflows").glob("*.yaml"):
        images.update(re.findall(r"^ +image: ([^\s$]+)$", path.read_text(), re.MULTILINE))
    for image in images:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*@sha256:[0-9a-f]{64}", image), image


def test_image_uses_the_lock_file_and_runs_without_root():
    """Hashes are required, only wheels are used, the user is a number, and there is a health check."""
    instructions = re.sub(r"^#.*\n|\\\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert [options.strip() for options in re.findall(r"pip [^&\n]*?\binstall\b([^&\n]*)", instructions)] == [
        "--require-hashes --only-binary :all: -r requirements.txt",
        "--require-hashes --no-deps -r backend.lock",
        "--no-deps dist/*.whl",
    ]
    assert re.findall(r"^USER (\S+)$", instructions, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^HEALTHCHECK .* CMD .*/livez", instructions, re.MULTILINE)


def test_compose_profiles_separate_service_and_monitoring():
    """Each service of compose is in exactly one of the two profiles. The folders that it mounts exist."""
    profiles = {name: service["profiles"] for name, service in COMPOSE["services"].items()}
    monitoring = {"prometheus", "alertmanager", "grafana", "otel-collector"}
    app = SERVICE_CONTAINERS | {"postgres", "redis", "s3", "bucket"}
    assert profiles == {name: ["monitoring"] for name in monitoring} | {name: ["app"] for name in app}
    for name, service in COMPOSE["services"].items():
        for needed in service.get("depends_on", {}):
            assert profiles[needed] == profiles[name]
        for source in (volume.partition(":")[0] for volume in service.get("volumes", [])):
            assert not source.startswith(".") or (ROOT / source).is_dir(), source


def test_service_containers_are_locked_down():
    """The root is read-only, capabilities are dropped, and ports are on loopback only."""
    for name in SERVICE_CONTAINERS:
        service = COMPOSE["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_open_multipart_uploads_are_aborted_after_a_day():
    """Where compose runs the S3 server, the server itself aborts what a killed upload left open."""
    (mounted,) = [each["source"] for each in COMPOSE["services"]["s3"]["configs"] if "master" in each["target"]]
    maintenance = tomllib.loads(COMPOSE["configs"][mounted]["content"])["master"]["maintenance"]
    assert maintenance["scripts"] == "s3.clean.uploads -timeAgo=24h"
    assert maintenance["sleep_minutes"] <= 60


def test_prometheus_targets_are_services_of_compose():
    """Each names a port on which the service listens. Pipelines of the collector use each configured component."""
    config = yaml.safe_load((ROOT / "observability" / "prometheus" / "prometheus.yml").read_text())
    groups = [group for job in config["scrape_configs"] for group in job["static_configs"]]
    targets = {target for group in groups for target in group["targets"] if not target.startswith("localhost")}
    assert {target.partition(":")[0] for target in targets} <= COMPOSE["services"].keys()
    assert "SUPPORT_ADMIN_PORT" not in COMPOSE["x-environment"]
    assert "support-service:8000" in targets
    assert any("0.0.0.0:9101" in part for part in COMPOSE["services"]["probe"]["command"])
    collector = yaml.safe_load((ROOT / "observability" / "otel-collector" / "config.yaml").read_text())
    used = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in collector["service"]["pipelines"].values():
        for part, names in pipeline.items():
            used[part] |= set(names)
    assert used == {part: collector[part].keys() for part in used}


def test_grafana_provisioning_matches_the_dashboards():
    """The datasource is the dashboards' default, and they are mounted at the provisioned path; on-call is the home."""
    provisioning = ROOT / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    for file in (ROOT / "grafana" / "dashboards").glob("*.json"):
        dashboard = json.loads(file.read_text())
        current = next(each for each in dashboard["templating"]["list"] if each["name"] == "datasource")["current"]
        assert (source["uid"], source["name"]) == (current["value"], current["text"])
    path = yaml.safe_load((provisioning / "dashboards" / "support.yaml").read_text())["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{path}:ro" in COMPOSE["services"]["grafana"]["volumes"]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{path}/support-overview.json"


def test_secrets_are_ignored_by_git():
    """Files in which the docs store tokens, passwords and keys, and Alertmanager's secrets, are in .gitignore."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    written = [*re.findall(r"--from-file=(\S+)", pages), *re.findall(r"-out (\S+\.pem)", pages)]
    written += re.findall(r"done > (\.env)$", pages, re.MULTILINE)
    assert len(written) == 3
    alertmanager = ROOT / "observability" / "alertmanager"
    named = re.findall(r"_file: (\S+)", (alertmanager / "alertmanager.yml").read_text())
    written += [str((alertmanager / secret).parent.relative_to(ROOT)) for secret in named]
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert set(written) <= ignored


def test_pods_are_locked_down():
    """Pods have no root user, a read-only root, no capabilities, no cluster token, and a memory limit."""
    for deployment in resources_of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_service_monitors_select_existing_services_and_ports():
    """Each ServiceMonitor names a port of its Service, and sets the job that the rules use."""
    services = {service["metadata"]["labels"]["app"]: service for service in resources_of_kind("Service")}
    for monitor in resources_of_kind("ServiceMonitor"):
        service = services[monitor["spec"]["selector"]["matchLabels"]["app"]]
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": monitor["metadata"]["name"]}]


def test_prometheus_rule_resource_holds_the_rule_files():
    """The PrometheusRule holds each group of observability/prometheus/rules/ once, and each manifest is listed."""
    files = sorted((ROOT / "observability" / "prometheus" / "rules").glob("*.yaml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    held = resources_of_kind("PrometheusRule")[0]["spec"]["groups"]
    assert sorted(held, key=lambda group: group["name"]) == sorted(groups, key=lambda group: group["name"])
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in KUBERNETES.glob("*.yaml"))

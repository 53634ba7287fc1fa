"""What the deployment files say: compose.yaml, the manifests of Kubernetes, the Dockerfile and the documentation."""

import re
from functools import cache
from pathlib import Path

import yaml

from support_service.platform import settings
from support_service.platform.settings import SettingsSection
from support_service.platform.settings.section import FILE_SUFFIX

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "observability" / "kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DOCS = (ROOT / "docs" / "operations" / "deployment.md").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICE_CONTAINERS = {"support-service", "migrate", "probe"}
# Variables that OpenTelemetry and the object store library read.
LIBRARY_VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
SECRET = {  # what the comment at the top of support-service.yaml says of the Secret `support-service`
    "SUPPORT_DATABASE_URL": "postgresql://support:secret@postgres/support",
    "SUPPORT_REDIS_URL": "redis://redis/0",
    "AWS_ACCESS_KEY_ID": "support",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


@cache
def manifests():
    """Return every Kubernetes resource, which no caller may change."""
    files = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [resource for path in files for resource in yaml.safe_load_all(path.read_text())]


def resources_of_kind(name):
    return [resource for resource in manifests() if resource["kind"] == name]


def known_variables():
    """Return every variable that the service reads, also from files."""
    sections = [
        each for each in vars(settings).values() if isinstance(each, type) and issubclass(each, SettingsSection)
    ]
    names = {str(field.alias) for section in sections for field in section.model_fields.values()}
    return names | {f"{name}{FILE_SUFFIX}" for name in names}


def environments():
    """Return the service's variables in each deployment, with placeholders filled in."""
    filled = {
        name: re.sub(r"\$\{[A-Z0-9_]+:?-([^}]*)\}", r"\1", re.sub(r"\$\{[A-Z0-9_]+:\?[^}]*\}", "secret", str(value)))
        for name, value in COMPOSE["x-environment"].items()
    }
    return {"compose": filled, "kubernetes": resources_of_kind("ConfigMap")[0]["data"]}


def pods():
    """Return the pod of each Deployment by its name."""
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in resources_of_kind("Deployment")}


def containers(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]

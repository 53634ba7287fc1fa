"""The manifests and the Helm chart describe the same resources, which kubectl, helm and Kubernetes's schemas accept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from support_service import __version__
from support_service.platform.settings import Settings
from tests.support.deployments import KUBERNETES, ROOT, SECRET
from tests.support.servers import MissingServer, find_binary

CHART = ROOT / "observability" / "helm" / "support-service"
ENVIRONMENT = Path(sys.prefix)
OPERATOR = "monitoring.coreos.com/"  # Prometheus operator's API, which is no part of Kubernetes
# What the chart adds: a hash that starts new pods when settings change, and files that an uninstalled release leaves.
ADDED = {
    ("Deployment", "support-service"): ("spec", "template", "metadata"),
    ("PersistentVolumeClaim", "support-attachments"): ("metadata",),
}

pytestmark = pytest.mark.usefixtures("servers")


def run(program, *arguments):
    """Run a program that `make services` installs."""
    path = find_binary(program, str(ENVIRONMENT / "bin"))
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def resources(text):
    """Return the resources of a stream by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def kustomized():
    done = run("kubectl", "kustomize", KUBERNETES)
    assert done.returncode == 0, done.stderr
    return resources(done.stdout)


def rendered(*values):
    """Return what the chart makes of values in the form `name=value`."""
    options = [option for value in values for option in ("--set-string" if "settings." in value else "--set", value)]
    done = run("helm", "template", "support", CHART, "--namespace", "support", *options)
    assert done.returncode == 0, done.stderr
    return resources(done.stdout)


def test_chart_passes_the_linter():
    done = run("helm", "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_chart_makes_what_the_manifests_have():
    """Without values of one's own, both ways lead to the same resources. The chart leaves the namespace to `helm`."""
    chart = rendered()
    for key, path in ADDED.items():
        part = chart[key]
        for name in path:
            part = part[name]
        assert len(part.pop("annotations")) == 1
    manifests = kustomized()
    del manifests["Namespace", "support"]
    assert chart.keys() == manifests.keys()
    for key, resource in chart.items():
        assert resource == manifests[key], key


@pytest.fixture(scope="module")
def schemas():
    """The schemas of Kubernetes, which `make services` installs; no field beside those that they name is allowed."""
    path = ENVIRONMENT / "share" / "kubernetes-1.37.json"
    if not path.exists():
        raise MissingServer("The tests need the schemas of Kubernetes: run `make services` first.")
    return json.loads(path.read_text())


def violations(schemas, resource):
    """Return what the schema of a resource's kind finds in it."""
    group, _, version = resource["apiVersion"].rpartition("/")
    kind = {"group": group, "version": version, "kind": resource["kind"]}
    (name,) = [
        name for name, schema in schemas["$defs"].items() if kind in schema.get("x-kubernetes-group-version-kind", ())
    ]
    validator = Draft202012Validator({"$ref": f"{schemas['$id']}#/$defs/{name}", "$defs": {"all": schemas}})
    return [error.message for error in validator.iter_errors(resource)]


@pytest.mark.parametrize("make", [kustomized, rendered])
def test_resources_have_the_form_that_kubernetes_knows(schemas, make):
    """No field is misspelled or in the wrong place."""
    checked = [each for each in make().values() if not each["apiVersion"].startswith(OPERATOR)]
    assert len(checked) >= 7
    assert [violation for resource in checked for violation in violations(schemas, resource)] == []


def test_misspelled_field_is_noticed(schemas):
    deployment = kustomized()["Deployment", "probe"]
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    (violation,) = violations(schemas, deployment)
    assert "readOnlyRootFileSystem" in violation


def test_values_reach_the_resources():
    """Image, settings, storage and number of replicas; the probe and what needs the operator can be left out."""
    made = rendered(
        "image.repository=registry.example/support",
        "image.tag=1.2.3",
        "replicas=3",
        "attachments.storageClass=shared",
        "settings.SUPPORT_TRUSTED_PROXIES=10.244.0.0/16",
        "probe.enabled=false",
        "monitoring.enabled=false",
    )
    assert {kind for kind, _ in made} == {
        *("ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service")
    }
    deployment = made["Deployment", "support-service"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert (container["image"], deployment["replicas"]) == ("registry.example/support:1.2.3", 3)
    assert made["PersistentVolumeClaim", "support-attachments"]["spec"]["storageClassName"] == "shared"
    settings = Settings.load_to_serve(made["ConfigMap", "support-service"]["data"] | SECRET)
    assert [str(network) for network in settings.limits.trusted_proxies] == ["10.244.0.0/16"]


def test_changed_settings_start_new_pods():
    def annotations(*values):
        return rendered(*values)["Deployment", "support-service"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations() == annotations("replicas=3")
    assert annotations() != annotations("settings.SUPPORT_OFFLOAD_AFTER=60d")


@pytest.mark.parametrize(
    "value",
    [
        *("replicas=two", "replicas=1", "replica=2", "image.tag=latest", "attachments.size=20"),
        "settings.support_host=x",
        "settings.SUPPORT_DATABASE_URL=postgresql://db/support",  # a ConfigMap is no place for a password
        "resources.limits.memory=null",
    ],
)
def test_wrong_values_are_refused(value):
    """The schema of the values names what is wrong, before anything reaches a cluster."""
    option = "--set-string" if "settings." in value else "--set"
    done = run("helm", "template", "support", CHART, option, value)
    assert done.returncode != 0, done.stdout
    assert "values" in done.stderr

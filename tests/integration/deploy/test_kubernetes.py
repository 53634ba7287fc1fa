"""The manifests and the Helm chart describe the same resources, which kubectl, helm and Kubernetes's schemas accept."""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from support_service import __version__
from support_service.settings import Settings
from tests.support.servers import find_binary
from tests.unit.deploy.deployments import KUBERNETES, ROOT
from tests.unit.deploy.test_containers import SECRET

CHART = ROOT / "observability" / "helm" / "support-service"
KUBERNETES_VERSION = "1.37"
OPERATOR = "monitoring.coreos.com/"  # Prometheus operator's API, whose schemas the package does not have
# What the chart adds: a hash that starts new pods when settings change, and files that an uninstalled release leaves.
ADDED = {
    ("Deployment", "support-service"): ("spec", "template", "metadata"),
    ("PersistentVolumeClaim", "support-attachments"): ("metadata",),
}

pytestmark = pytest.mark.usefixtures("servers")


def run(program, *arguments):
    """Run a program that `make services` installs."""
    path = find_binary(program, str(Path(sys.executable).parent))
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


@pytest.mark.parametrize("make", [kustomized, rendered])
def test_resources_have_the_form_that_kubernetes_knows(make):
    """No field is misspelled or in the wrong place."""
    checked = [each for each in make().values() if not each["apiVersion"].startswith(OPERATOR)]
    assert len(checked) >= 7
    for resource in checked:
        kubernetes_validate.validate(resource, KUBERNETES_VERSION, strict=True)


def test_misspelled_field_is_noticed():
    deployment = kustomized()["Deployment", "probe"]
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSION, strict=True)


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
        *("ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service"),
    }
    deployment = made["Deployment", "support-service"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert (container["image"], deployment["replicas"]) == ("registry.example/support:1.2.3", 3)
    assert made["PersistentVolumeClaim", "support-attachments"]["spec"]["storageClassName"] == "shared"
    settings = Settings.to_serve(made["ConfigMap", "support-service"]["data"] | SECRET)
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

"""The manifests and the Helm chart describe the same resources, which kubectl, helm and Kubernetes's schemas accept."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from support_service import __version__
from support_service.platform.settings import Settings
from support_service.platform.settings.value_types import mask_secrets
from support_service.server import STOP_TIMEOUT
from tests.support.deployments import KUBERNETES, ROOT, SECRET, containers, known_variables
from tests.support.each import each_row
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


def run(program, *arguments, given=""):
    path = find_binary(program, str(ENVIRONMENT / "bin"))
    command = [path, *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def resources(text):
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def kustomized():
    done = run("kubectl", "kustomize", KUBERNETES)
    assert done.returncode == 0, done.stderr
    return resources(done.stdout)


def template(*options, **values):
    command = ("helm", "template", "support", CHART, "--namespace", "support", "--values", "-", *options)
    return run(*command, given=json.dumps(values))


def rendered(**values):
    done = template(**values)
    assert done.returncode == 0, done.stderr
    return resources(done.stdout)


def container_of(made):
    (found,) = [each for each in service_pod(made)["spec"]["containers"] if each["name"] == "support-service"]
    return found


def service_pod(made):
    return made["Deployment", "support-service"]["spec"]["template"]


def test_chart_passes_the_linter():
    done = run("helm", "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_packaged_chart_installs_the_published_image(tmp_path):
    """The chart of a release names the image that the release has pushed. Nothing else differs."""
    subprocess.run([ROOT / ".ci/chart", tmp_path, "registry.example/desk/support"], check=True, capture_output=True)
    done = run("helm", "template", "support", tmp_path / f"support-service-{__version__}.tgz", "--namespace", "support")
    assert done.returncode == 0, done.stderr
    published = f"image: registry.example/desk/support:{__version__}\n"
    assert published in done.stdout
    assert resources(done.stdout.replace(published, f"image: support-service:{__version__}\n")) == rendered()


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
    """The schemas of Kubernetes, which `make services` installs; fields beside the schemas' own are not allowed."""
    path = ENVIRONMENT / "share" / "kubernetes-1.37.json"
    if not path.exists():
        raise MissingServer("The tests need the schemas of Kubernetes: run `make services` first.")
    return json.loads(path.read_text())


def violations(schemas, resource):
    from jsonschema import Draft202012Validator

    group, _, version = resource["apiVersion"].rpartition("/")
    kind = {"group": group, "version": version, "kind": resource["kind"]}
    (name,) = [
        name for name, schema in schemas["$defs"].items() if kind in schema.get("x-kubernetes-group-version-kind", ())
    ]
    validator = Draft202012Validator({"$ref": f"{schemas['$id']}#/$defs/{name}", "$defs": {"all": schemas}})
    return [error.message for error in validator.iter_errors(resource)]


# What companies set, in fourteen configurations.
PASSWORDS = {"SUPPORT_DATABASE_URL": "postgresql://db/support", "SUPPORT_REDIS_URL": "redis://cache/0"}
CERTIFICATE = {"name": "ca", "secret": {"secretName": "database-ca"}}
MONITORING_PODS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
OTHER_CONTAINER = {"image": "registry.example/other:1", "securityContext": {"runAsUser": 10002}}
HARDENED = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}  # where the cluster chooses the user
EGRESS = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 5432}]}
CONFIGURATIONS = {
    "default": {},
    "pods of one's own": {
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "securityContext": {"privileged": False},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "startupProbe": {"failureThreshold": 120},
        "livenessProbe": {"periodSeconds": 20},
        "readinessProbe": {"successThreshold": 2},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
        "initContainers": [OTHER_CONTAINER | {"name": "wait"}],
        "extraContainers": [OTHER_CONTAINER | {"name": "pooler"}],
        "envFrom": [{"secretRef": {"name": "support-jwt"}}],
    },
    "shared cluster": {
        "commonLabels": {"team": "support"},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}, "data": {"a": "b"}}],
        "service": {"annotations": {"example.com/internal": "true"}},
        "settings": {"SUPPORT_PORT": 9000, "SUPPORT_TRUSTED_PROXIES": "10.244.0.0/16", "SUPPORT_CONNECTIONS": 2e6},
        "ingress": {"enabled": True, "host": "support.example", "hosts": ["desk.example", "help.example"]},
        "networkPolicy": {"enabled": True, "from": [MONITORING_PODS], "egress": [EGRESS]},
        "autoscaling": {"enabled": True, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}},
    },
    "private registry": {
        "image": {"repository": "registry.example/support", "digest": f"sha256:{'a1' * 32}", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "role of the cloud": {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}},
    "nodes": {
        "nodeSelector": {"pool": "apps"},
        "tolerations": [{"key": "apps", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}}}
                ]
            }
        },
        "priorityClassName": "important",
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
        "podLabels": {"team": "support"},
    },
    "database of an operator": {
        "secret": "",
        "settings": {
            "SUPPORT_DATABASE_URL": "postgresql://app@db-rw:5432/app",
            "SUPPORT_DATABASE_PASSWORD_FILE": "/etc/database/password",
            "SUPPORT_REDIS_URL": "redis://cache/0",
        },
        "extraVolumes": [{"name": "database", "secret": {"secretName": "db-app"}}],
        "extraVolumeMounts": [{"name": "database", "mountPath": "/etc/database", "readOnly": True}],
    },
    "variables and files": {
        "probe": {"extraEnv": [{"name": "OTEL_METRICS_EXPORTER", "value": "otlp"}]},
        "extraEnv": [
            {"name": "SUPPORT_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "cache", "key": "url"}}},
            {"name": "SUPPORT_LOG_LEVEL", "value": "debug"},
        ],
        "extraVolumes": [CERTIFICATE],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
        "migration": {"extraEnv": [{"name": "SUPPORT_LOG_LEVEL", "value": "info"}]},
    },
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "support.example",
            "annotations": {"cert-manager.io/cluster-issuer": "internal"},
            "tls": [{"secretName": "support-tls", "hosts": ["support.example"]}],
        },
        "settings": {"SUPPORT_TRUSTED_PROXIES": "10.244.0.0/16"},
        "probe": {"ingressUrl": "https://support.example"},
    },
    "autoscaling": {
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "targetCPUUtilizationPercentage": 60}
    },
    "closed network": {"networkPolicy": {"enabled": True, "from": [MONITORING_PODS]}},
    "files in the bucket": {"settings": {"SUPPORT_ATTACHMENT_STORE": "s3"}},
    "encrypted values": {"secretSettings": PASSWORDS},
    "jwt, an own volume, no operator": {
        "settings": {
            "SUPPORT_AUTH": "jwt",
            "SUPPORT_JWT_KEYS": "https://login.example/keys",
            "SUPPORT_JWT_ISSUER": "https://login.example",
            "SUPPORT_JWT_AUDIENCE": "support",
        },
        "tokensSecret": "",
        "persistence": {"existingClaim": "files"},
        "probe": {"enabled": False},
        "monitoring": {"enabled": False},
    },
}


@pytest.mark.parametrize("make", [kustomized, *(partial(rendered, **values) for values in CONFIGURATIONS.values())])
def test_resources_have_the_form_that_kubernetes_knows(schemas, make, tmp_path):
    """No field is misspelled or in the wrong place, and the service takes its settings.

    Without a Secret of its own, the database's password is a file, and everything else a setting.
    """
    made = make()
    checked = [each for each in made.values() if not each["apiVersion"].startswith(OPERATOR)]
    assert len(checked) >= 5
    assert [violation for resource in checked for violation in violations(schemas, resource)] == []
    has_secret = any("secretRef" in source for source in container_of(made)["envFrom"])
    mounted = [each for each in container_of(made)["volumeMounts"] if each["mountPath"] == "/etc/database"]
    assert has_secret or mounted
    (tmp_path / "password").write_text("secret")  # where the volume with the Secret is mounted
    settings = made["ConfigMap", "support-service"]["data"]
    settings = {name: value.replace("/etc/database", str(tmp_path)) for name, value in settings.items()}
    Settings.load_to_serve(settings | (SECRET if has_secret else {}))


def test_values_reach_the_resources():
    """Image, settings, storage and number of replicas; the probe and what needs the operator can be left out.

    A time to stop that is just long enough is accepted.
    """
    rendered(settings={"SUPPORT_STOP_DELAY": "15"})
    rendered(terminationGracePeriodSeconds=SHORTEST, settings={"SUPPORT_STOP_DELAY": None})
    made = rendered(
        image={"repository": "registry.example/support", "tag": "1.2.3"},
        replicaCount=3,
        persistence={"storageClass": "shared"},
        settings={"SUPPORT_TRUSTED_PROXIES": "10.244.0.0/16"},
        probe={"enabled": False},
        monitoring={"enabled": False},
    )
    assert {kind for kind, _ in made} == {
        *("ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service", "ServiceAccount")
    }
    deployment = made["Deployment", "support-service"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert (container["image"], deployment["replicas"]) == ("registry.example/support:1.2.3", 3)
    assert made["PersistentVolumeClaim", "support-attachments"]["spec"]["storageClassName"] == "shared"
    settings = Settings.load_to_serve(made["ConfigMap", "support-service"]["data"] | SECRET)
    assert [str(network) for network in settings.limits.trusted_proxies] == ["10.244.0.0/16"]


def numbers(values, path=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path + name, value


def test_numbers_mean_the_same_in_a_file_and_as_options():
    """Helm reads them as two types, which its templates do not compare.

    In one of the calls at least, one of two numbers is an option and the other one is not.
    """
    enabled = ("autoscaling.enabled=true", "settings.SUPPORT_PORT=8000", "settings.SUPPORT_STOP_DELAY=5")
    given = [f"{path}={value}" for path, value in numbers(yaml.safe_load((CHART / "values.yaml").read_text()))]
    assert len(given) > 10
    expected = template(*(f"--set-string={each}" if "SUPPORT" in each else f"--set={each}" for each in enabled))
    for bit in range(len(given).bit_length()):
        chosen = [each for number, each in enumerate(given, start=1) if number >> bit & 1]
        done = template(*(f"--set={each}" for each in (*enabled, *chosen)))
        assert (done.stderr, done.stdout) == (expected.stderr, expected.stdout), chosen
    assert resources(expected.stdout)["HorizontalPodAutoscaler", "support-service"]


def test_pods_have_the_containers_rights_and_times_that_the_values_say():
    """The user of a pod is left to the cluster by null. All other rights stay as narrow as they are."""
    given = CONFIGURATIONS["pods of one's own"]
    made = rendered(**given)
    for name in ("support-service", "probe"):
        assert made["Deployment", name]["spec"]["template"]["spec"]["securityContext"] == HARDENED
    spec, container = service_pod(made)["spec"], container_of(made)
    assert [each["name"] for each in containers(spec)] == ["wait", "migrate", "support-service", "pooler"]
    migrate = spec["initContainers"][1]
    for each in (migrate, container):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert each["envFrom"][-1] == {"secretRef": {"name": "support-jwt"}}
    assert spec["topologySpreadConstraints"] == given["topologySpreadConstraints"]
    times = {
        name: {k: v for k, v in container[name].items() if k != "httpGet"} for name in container if "Probe" in name
    }
    assert times == {
        "startupProbe": {"periodSeconds": 1, "failureThreshold": 120},
        "livenessProbe": {"timeoutSeconds": 3, "periodSeconds": 20},
        "readinessProbe": {"periodSeconds": 5, "timeoutSeconds": 3, "successThreshold": 2},
    }
    budget = made["PodDisruptionBudget", "support-service"]["spec"]
    assert (budget.get("minAvailable"), budget["maxUnavailable"]) == (None, "25%")
    without_budget = rendered(podDisruptionBudget={"enabled": False})
    assert ("PodDisruptionBudget", "support-service") not in without_budget


def test_resources_fit_into_a_cluster_that_others_use():
    """Each resource has the common labels. The network policy leaves DNS, the namespace and the named addresses.

    Prometheus selects the labels of monitoring.
    """
    given = CONFIGURATIONS["shared cluster"]
    made = rendered(**given, monitoring={"labels": {"release": "kube-prometheus-stack"}})
    monitors = [each for (kind, _), each in made.items() if kind in ("ServiceMonitor", "PrometheusRule")]
    releases = [each["metadata"]["labels"]["release"] for each in monitors]
    assert releases == ["kube-prometheus-stack"] * 3
    assert made.pop(("ConfigMap", "other")) == given["extraObjects"][0]
    templates = [each["spec"]["template"] for (kind, _), each in made.items() if kind == "Deployment"]
    assert len(templates) == 2
    for each in (*made.values(), *templates):
        assert each["metadata"]["labels"]["team"] == "support", each
    assert made["Service", "support-service"]["metadata"]["annotations"] == given["service"]["annotations"]
    rules = made["Ingress", "support-service"]["spec"]["rules"]
    assert [rule["host"] for rule in rules] == ["support.example", "desk.example", "help.example"]
    assert len({json.dumps(rule["http"]) for rule in rules}) == 1
    policy = made["NetworkPolicy", "support-service"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    namespace, dns, named = policy["egress"]
    assert (namespace, {each["port"] for each in dns["ports"]}, named) == ({"to": [{"podSelector": {}}]}, {53}, EGRESS)
    scaler = made["HorizontalPodAutoscaler", "support-service"]["spec"]
    assert scaler["behavior"] == given["autoscaling"]["behavior"]


def test_port_of_the_service_is_the_port_of_its_pods():
    """Its checks, its Service and the network policy follow. Callers find the service where it was."""
    made = rendered(**CONFIGURATIONS["shared cluster"])
    container = container_of(made)
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    assert {container[name]["httpGet"]["port"] for name in container if "Probe" in name} == {"http"}
    (port,) = made["Service", "support-service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8000, "http")
    (rule,) = made["NetworkPolicy", "support-service"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": 9000}, {"port": 9101}]
    data = made["ConfigMap", "support-service"]["data"]
    assert (data["SUPPORT_PORT"], data["SUPPORT_CONNECTIONS"]) == ("9000", "2000000")


def test_image_is_named_by_its_digest_and_pulled_with_the_secret():
    """Also that of the migration and of the probe."""
    made = rendered(**CONFIGURATIONS["private registry"])
    for name in ("support-service", "probe"):
        pod = made["Deployment", name]["spec"]["template"]["spec"]
        assert {each["image"] for each in containers(pod)} == {f"registry.example/support@sha256:{'a1' * 32}"}
        assert {each["imagePullPolicy"] for each in containers(pod)} == {"Always"}
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_service_account_has_annotations_or_is_one_of_others():
    made = rendered(**CONFIGURATIONS["role of the cloud"])
    assert made["ServiceAccount", "support-service"]["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"
    }
    other = rendered(serviceAccount={"create": False, "name": "shared"})
    assert not [kind for kind, _ in other if kind == "ServiceAccount"]
    assert service_pod(other)["spec"]["serviceAccountName"] == "shared"
    assert "serviceAccountName" not in service_pod(rendered(serviceAccount={"create": False}))["spec"]


def test_pods_go_where_the_values_say():
    """Both Deployments, and their selectors and the label of the application stay."""
    given = CONFIGURATIONS["nodes"]
    made = rendered(**given)
    for name, app in (("support-service", "support-service"), ("probe", "support-probe")):
        template = made["Deployment", name]["spec"]["template"]
        for value in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
            assert template["spec"][value] == given[value]
        assert template["metadata"]["labels"] == {"app": app, "team": "support"}
        assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


def test_migration_has_the_variables_and_files_of_the_service_and_its_own():
    """A variable of the migration replaces the service's variable, and no name is there twice.

    The probe has its own variables, and pushes where they say.
    """
    given = CONFIGURATIONS["variables and files"]
    made = rendered(**given)
    spec = service_pod(made)["spec"]
    (migrate,), (serve,) = spec["initContainers"], spec["containers"]
    assert serve["env"] == given["extraEnv"]
    variables = [(each["name"], each.get("value")) for each in migrate["env"]]
    assert sorted(variables) == [("SUPPORT_LOG_LEVEL", "info"), ("SUPPORT_REDIS_URL", None)]
    assert given["extraVolumes"][0] in spec["volumes"]
    assert all(given["extraVolumeMounts"][0] in each["volumeMounts"] for each in (migrate, serve))
    (probe,) = made["Deployment", "probe"]["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in probe["env"]] == ["SUPPORT_TOKEN", "OTEL_METRICS_EXPORTER"]


def test_values_behind_an_ingress_close_the_metrics_to_clients():
    """The values of docs/operations/ingress.md: the service and Prometheus read the token from one Secret.

    Prometheus may reach the service. It sends no token to the probe, which asks for none.
    """
    ingress = rendered(**CONFIGURATIONS["ingress"])["Ingress", "support-service"]["spec"]
    assert (ingress["rules"][0]["host"], ingress["ingressClassName"]) == ("support.example", "nginx")
    assert ingress["tls"] == [{"secretName": "support-tls", "hosts": ["support.example"]}]
    (values,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/operations/ingress.md").read_text(), re.DOTALL)
    made = rendered(**yaml.safe_load(values))
    (path,) = made["Ingress", "support-service"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "support-service", "port": {"name": "http"}}
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    (container,) = service_pod(made)["spec"]["containers"]
    (variable,) = container["env"]
    (endpoint,) = made["ServiceMonitor", "support-service"]["spec"]["endpoints"]
    assert variable["name"] == "SUPPORT_METRICS_TOKEN"
    assert endpoint["authorization"] == {"credentials": variable["valueFrom"]["secretKeyRef"]}
    assert MONITORING_PODS in made["NetworkPolicy", "support-service"]["spec"]["ingress"][0]["from"]
    (of_probe,) = made["ServiceMonitor", "support-probe"]["spec"]["endpoints"]
    assert "authorization" not in of_probe


def test_autoscaler_decides_on_the_number_of_replicas():
    """An upgrade does not set it back: the Deployment then names none."""
    made = rendered(**CONFIGURATIONS["autoscaling"])
    assert "replicas" not in made["Deployment", "support-service"]["spec"]
    scaler = made["HorizontalPodAutoscaler", "support-service"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["scaleTargetRef"]["name"] == "support-service"
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 60


def test_network_policy_admits_the_namespace_and_named_pods():
    """To the ports of the service and of the probe, and it says nothing about what they call."""
    made = rendered(**CONFIGURATIONS["closed network"])
    policy = made["NetworkPolicy", "support-service"]["spec"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {}}, MONITORING_PODS]
    ports = {each["targetPort"]: each["port"] for each in ports_of(made)}
    assert [each["port"] for each in rule["ports"]] == [ports["http"], ports["metrics"]]
    assert policy["policyTypes"] == ["Ingress"]
    (expression,) = policy["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == {
        each["spec"]["template"]["metadata"]["labels"]["app"]
        for (kind, _), each in made.items()
        if kind == "Deployment"
    }


def ports_of(made):
    return [port for (kind, _), each in made.items() if kind == "Service" for port in each["spec"]["ports"]]


def test_no_volume_is_needed_where_files_go_to_the_bucket():
    """Unless a company keeps it while older files are on it."""

    def attachments(**values):
        made = rendered(**values)
        (volume,) = [each for each in service_pod(made)["spec"]["volumes"] if each["name"] == "attachments"]
        claims = [name for kind, name in made if kind == "PersistentVolumeClaim"]
        return claims, volume.get("persistentVolumeClaim", {}).get("claimName")

    in_bucket = CONFIGURATIONS["files in the bucket"]
    assert attachments() == (["support-attachments"], "support-attachments")
    assert attachments(**in_bucket) == ([], None)
    assert attachments(**in_bucket, persistence={"enabled": True}) == (["support-attachments"], "support-attachments")
    assert attachments(persistence={"existingClaim": "files"}) == ([], "files")


def test_changed_settings_and_secrets_start_new_pods():
    """And nothing else does. The Secret of encrypted values is not in the ConfigMap."""
    made = rendered(**CONFIGURATIONS["encrypted values"])
    assert made["Secret", "support-service"]["stringData"] == PASSWORDS
    assert not PASSWORDS.keys() & made["ConfigMap", "support-service"]["data"].keys()

    def annotations(**values):
        return service_pod(rendered(**values))["metadata"]["annotations"]

    assert annotations() == annotations(replicaCount=3)
    assert annotations() != annotations(settings={"SUPPORT_OFFLOAD_AFTER": "60d"})
    one, other = (annotations(secretSettings=PASSWORDS | {"SUPPORT_REDIS_URL": f"redis://{name}"}) for name in "ab")
    assert {name for name in one if one[name] != other[name]} == {"checksum/secret"}


class Cluster(ThreadingHTTPServer):
    """What helm asks an API server before it renders: which kinds there are, and one Secret."""

    def __init__(self, made, secret):
        super().__init__(("127.0.0.1", 0), Asked)
        versions = {each["apiVersion"] for each in made.values()}
        groups = [{"name": each.partition("/")[0], "versions": [version_of(each)]} for each in versions if "/" in each]
        self.documents = {
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
            "/api/v1/namespaces/support/secrets/support-service": {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "support-service"},
                "data": secret,
            },
        }
        for version in versions:
            kinds = {"Secret"} | {each["kind"] for each in made.values() if each["apiVersion"] == version}
            found = [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in kinds]
            path = f"/apis/{version}" if "/" in version else f"/api/{version}"
            self.documents[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": found}


def version_of(name):
    return {"groupVersion": name, "version": name.rpartition("/")[2]}


class Asked(BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.documents.get(self.path.partition("?")[0])
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


@contextmanager
def cluster(made, secret):
    """Yield the options with which helm asks a cluster that has a Secret."""
    server = Cluster(made, secret)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield (
            "--dry-run=server",
            "--disable-openapi-validation",
            f"--kube-apiserver=http://127.0.0.1:{server.server_port}",
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_changed_secret_of_the_cluster_starts_new_pods():
    """An upgrade sees the Secret that others made. Where helm only renders, there is no such annotation."""

    def checksum(secret):
        with cluster(rendered(), {"SUPPORT_DATABASE_URL": secret}) as options:
            done = template(*options)
        assert done.returncode == 0, done.stderr
        return service_pod(resources(done.stdout))["metadata"]["annotations"]["checksum/secret"]

    assert checksum("b25l") == checksum("b25l")
    assert checksum("b25l") != checksum("dHdv")
    assert "checksum/secret" not in service_pod(rendered())["metadata"]["annotations"]


# Settings whose whole value is a secret, as messages of errors mask them.
SECRET_SETTINGS = [
    *sorted(name for name in known_variables() if mask_secrets(name, "secret") == "***"),
    *("SUPPORT_DATABASE_PASSWORD", "SUPPORT_WEBHOOKS", "OTEL_EXPORTER_OTLP_HEADERS"),
]


def test_wrong_values_are_refused(subtests):
    """The schema of the values names what is wrong, before anything reaches a cluster."""
    wrong = (
        *({"replicaCount": "two"}, {"replicaCount": 1}, {"replica": 2}, {"image": {"tag": "latest"}}),
        *({"image": {"digest": "sha256:abc"}}, {"persistence": {"size": "20"}}, {"podLabels": {"app": "other"}}),
        {"settings": {"support_host": "x"}},
        # A ConfigMap is no place for a password.
        {"settings": {"SUPPORT_DATABASE_URL": "postgresql://support:secret@db/support"}},
        {"settings": {"SUPPORT_REDIS_URL": "rediss://:secret@cache/0"}},
        {"settings": {"SUPPORT_EVENTS_REDIS_URL": "redis://cache/0?password=secret"}},
        *({"settings": {name: "secret"}} for name in SECRET_SETTINGS),
        {"resources": {"limits": {"memory": None}}},
        {"ingress": {"enabled": True}},
        {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]},
        {"imagePullSecrets": ["registry"]},
    )
    for values in wrong:
        with subtests.test(str(values)):
            done = template(**values)
            assert done.returncode != 0, done.stdout
            assert "values" in done.stderr


BEHIND_INGRESS = {"enabled": True, "host": "support.example"}
SERVER = Settings.load({}).server
SHORTEST = int(SERVER.stop_delay + STOP_TIMEOUT + 5)


@each_row(
    "values, reason",
    [
        ({"terminationGracePeriodSeconds": SHORTEST - 1, "settings": {"SUPPORT_STOP_DELAY": None}}, "set at least 15"),
        ({"terminationGracePeriodSeconds": 19}, "set at least 20, the sum of SUPPORT_STOP_DELAY (5 s)"),
        ({"settings": {"SUPPORT_STOP_DELAY": "15.5"}}, "set at least 30.5"),
        ({"secretSettings": {"SUPPORT_STOP_DELAY": "16"}}, "set at least 31"),
        ({"extraEnv": [{"name": "SUPPORT_STOP_DELAY", "value": "60"}]}, "set at least 75"),
        ({"persistence": {"enabled": False}}, "files would be lost"),
        ({"tokensSecret": ""}, "tokensSecret is empty, and nobody could sign in"),
        ({"secret": "", "secretSettings": PASSWORDS}, "name the Secret"),
        ({"autoscaling": {"enabled": True, "maxReplicas": 2, "minReplicas": 3}}, "at least autoscaling.minReplicas, 3"),
        ({"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}, "needs resources.requests.cpu"),
        # Of the settings, the service would refuse these at its start.
        ({"settings": {"SUPPORT_DATABSE_POOL": "5"}}, "settings has SUPPORT_DATABSE_POOL, and the service has no such"),
        ({"extraEnv": [{"name": "SUPPORT_POOL", "value": "5"}]}, "extraEnv has SUPPORT_POOL"),
        ({"migration": {"extraEnv": [{"name": "SUPPORT_X_FILE"}]}}, "migration.extraEnv has SUPPORT_X_FILE"),
        ({"settings": {"SUPPORT_DATABASE_POOL": "ten"}}, 'is "ten": expected integer, at least 1, at most 200'),
        ({"settings": {"SUPPORT_DATABASE_POOL": 201}}, 'SUPPORT_DATABASE_POOL is "201": expected integer'),
        ({"settings": {"SUPPORT_STOP_DELAY": "-1"}}, "expected seconds, at least 0"),
        ({"settings": {"SUPPORT_AUTH": "basic"}}, "expected open or token or jwt"),
        ({"settings": {"SUPPORT_OFFLOAD_AFTER": 30}}, "expected duration, such as 30d"),
        (
            {"secretSettings": {"SUPPORT_DATABASE_URL": "mysql://a:secret@b/c"}},
            "secretSettings.SUPPORT_DATABASE_URL: exp",
        ),
        # With these it would start, or not, and nobody would reach it.
        ({"settings": {"SUPPORT_HOST": None}}, "SUPPORT_HOST is 127.0.0.1, and nothing outside the pod"),
        ({"settings": {"SUPPORT_PORT": "0"}}, "set settings.SUPPORT_PORT to a number"),
        ({"extraEnv": [{"name": "SUPPORT_PORT", "valueFrom": {"configMapKeyRef": {}}}]}, "a port that is known before"),
        ({"settings": {"SUPPORT_AUTH": "Open"}}, "set settings.SUPPORT_AUTH to token or jwt"),
        ({"settings": {"SUPPORT_AUTH": None}}, "set settings.SUPPORT_AUTH to token or jwt"),
        (
            {"settings": {"SUPPORT_TOKENS_FILE": None}},
            "SUPPORT_TOKENS_FILE is var/tokens.json, and nobody could sign in",
        ),
        ({"settings": {"SUPPORT_S3_BUCKET": None}}, "SUPPORT_S3_BUCKET is missing"),
        ({"settings": {"SUPPORT_ADMIN_PORT": "9102"}}, "takes the metrics from the port that Prometheus reads"),
        ({"secret": ""}, "the service has no database"),
        ({"podDisruptionBudget": {"minAvailable": 2}}, "no node could be drained"),
        ({"ingress": BEHIND_INGRESS}, "all clients would share the rate limit"),
        (
            {
                "ingress": BEHIND_INGRESS,
                "settings": {"SUPPORT_TRUSTED_PROXIES": "10.244.0.0/16"},
                "networkPolicy": {"enabled": True},
            },
            "the ingress could not reach the service",
        ),
    ],
)
def test_values_that_contradict_one_another_are_refused(values, reason):
    """The message says what would go wrong and what to set. A time to stop includes defaults of the service."""
    done = template(**values)
    assert done.returncode != 0, done.stdout
    assert reason in done.stderr
    assert "secret@" not in done.stderr

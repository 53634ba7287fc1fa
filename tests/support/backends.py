"""Real telemetry backends: VictoriaMetrics with vmalert, Prometheus, and the collector rotel."""

import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.servers import Server, find_binary, free_port

Series = dict[str, str]
RELABELING = Path(__file__).parents[2] / "observability" / "pushed" / "relabel.yaml"


class Backend(Server):
    """A server process on a free port, started by the constructor and ended by its process id."""

    def __init__(self, folder: Path, port: int, ready: str, *command: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._ready_path = ready
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "server.log"
        self.launch(command, self._is_ready, log, cwd=folder)

    def query(self, promql: str) -> list[tuple[Series, float]]:
        """Return the result of an instant query: label sets and values."""
        answer = self.get("/api/v1/query", query=promql)
        return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self._ready_path, timeout=1) as answer:
                return answer.status == 200
        except OSError as failure:
            # A collector has no readiness page: any HTTP response means that it listens.
            return not self._ready_path and hasattr(failure, "code")


class VictoriaMetrics(Backend):
    """Debian's VictoriaMetrics, which accepts OTLP and uses Prometheus's naming of series."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__(
            folder,
            port,
            "/health",
            find_binary("victoria-metrics"),
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-storageDataPath={folder / 'data'}",
            "-opentelemetry.usePrometheusNaming",
            "-search.latencyOffset=0s",  # makes the latest samples visible at once
            "-search.disableCache",
            f"-relabelConfig={RELABELING}",
        )
        self.otlp = f"{self.url}/opentelemetry/v1/metrics"

    def query(self, promql: str) -> list[tuple[Series, float]]:
        """Flush, which may otherwise take ten seconds, and return the result of an instant query."""
        urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=10).close()
        return super().query(promql)


class VmAlert(Backend):
    """Debian's vmalert: evaluates rules on a VictoriaMetrics every second, and notifies nobody."""

    def __init__(self, folder: Path, source: VictoriaMetrics, rules: Path, delay: str) -> None:
        """VictoriaMetrics shows samples some seconds after they were pushed: evaluations are of `delay` ago."""
        port = free_port()
        super().__init__(
            folder,
            port,
            "/health",
            find_binary("vmalert"),
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-rule={rules}",
            "-evaluationInterval=1s",
            f"-rule.evalDelay={delay}",
            *(f"-{each}.url={source.url}" for each in ("datasource", "remoteWrite", "remoteRead")),
            "-remoteWrite.flushInterval=200ms",
            "-notifier.blackhole",
            *(f"-external.label={name}=https://example.invalid/{name}" for name in ("runbooks", "grafana")),
        )

    def firing(self) -> dict[str, list[dict[str, Any]]]:
        """Return the firing alerts by name, with their labels and annotations."""
        found: dict[str, list[dict[str, Any]]] = {}
        for each in self.get("/api/v1/alerts")["data"]["alerts"]:
            if each["state"] == "firing":
                found.setdefault(each["name"], []).append(each)
        return found


class Prometheus(Backend):
    """Debian's Prometheus; evaluates rules every second and scrapes every three. `others` are targets by job."""

    def __init__(self, folder: Path, target: str, rules: Sequence[Path] = (), **others: str) -> None:
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [address]}]}
            for name, address in {"support-service": target, **others}.items()
        ]
        times = {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "1s"}
        config = {"global": times, "rule_files": [str(path) for path in rules], "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        super().__init__(
            folder,
            port,
            "/-/ready",
            find_binary("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.tsdb.path={folder / 'data'}",
        )


class Collector(Backend):
    """The collector rotel from PyPI; accepts OTLP over HTTP and exports to `endpoint`."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        port = free_port()
        spec = find_spec("rotel")
        directory = str(Path(spec.origin).parent) if spec and spec.origin else "/nowhere"
        super().__init__(
            folder,
            port,
            "",
            find_binary("rotel-agent", directory),
            *("start", "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "100ms"),
            *("--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"),
            *("--otlp-exporter-endpoint", endpoint, "--pid-file", str(folder / "rotel.pid")),
            *("--log-file", str(folder / "rotel.log")),
        )

"""Prometheus and Alertmanager with the committed configuration, divided waits, and a history to compare with."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml
from observability import rules
from observability.drill import EVALUATION_SECONDS, SIZE_DIVISOR, TIME_DIVISOR
from observability.signal import SCRAPE_EVERY

from tests.support.alert_receiver import Receiver
from tests.support.calls import eventually
from tests.support.servers import find_binary, free_port

# Twice the configured interval, since the drill itself loads the machine.
SCRAPE = f"{2000 * int(SCRAPE_EVERY.removesuffix('s')) // TIME_DIVISOR}ms"
OBSERVABILITY = Path(rules.__file__).parent
START_TIMEOUT = 120.0  # seconds, on a busy machine
WAIT = re.compile(r"((?:_wait|_interval): )(\d+[smh])")
STEP = 5.0  # seconds between samples of the history
# What a healthy week would have recorded, at the rates of `Traffic`.
TICKETS = {"support:tickets_created:rate15m": 4.0}
CACHE = {"support:timeline_cache_misses:increase": 10.0, "support:timeline_cache_reads:increase": 25.0}
LABELS = 'job="support-service",http_route="/support/cases",http_response_status_code="200"'
ROUTES = {
    'route:http_server_request_duration_seconds:p95{http_request_method="POST",http_route="/support/cases"}': 0.02
}
RECEIVED = {'support_request_received_total{synthetic="other"}': 17.0}  # increase per second
COUNTERS = {  # increase per second
    f"http_server_request_duration_seconds_count{{{LABELS}}}": 30.0,
    'support_timeline_read_seconds_count{completeness="complete"}': 12.0,
    'support_timeline_read_seconds_bucket{completeness="complete",le="2.0"}': 12.0,
}


@dataclass(frozen=True, slots=True)
class Group:
    """A rule group: when it was last evaluated, and which of its alerts fire, except Watchdog."""

    name: str
    evaluated: str
    firing: set[str]


class Monitoring:
    """Prometheus and Alertmanager as processes on free ports."""

    def __init__(self, folder: Path, targets: dict[str, list[str]], receiver: Receiver) -> None:
        self._folder = folder
        self._targets = targets
        self._receiver = receiver
        self._prometheus, self._alertmanager = free_port(), free_port()
        self.prometheus = f"http://127.0.0.1:{self._prometheus}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._configure_prometheus()
        self._configure_alertmanager()
        await asyncio.to_thread(self._write_history)
        listen = "--web.listen-address=127.0.0.1:"
        usual = ("--config.file=alertmanager.yml", "--cluster.listen-address=", "--storage.path=alertmanager")
        self._run(find_binary("prometheus-alertmanager"), f"{listen}{self._alertmanager}", *usual)
        self._prometheus_process = self._run(
            *(find_binary("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            *(f"{listen}{self._prometheus}", f"--query.lookback-delta={round(300 / TIME_DIVISOR)}s"),
            f"--rules.alert.resend-delay={round(EVALUATION_SECONDS * 1000)}ms",
        )
        self._session = aiohttp.ClientSession()
        for port in (self._prometheus, self._alertmanager):
            await eventually(lambda port=port: self._ready(port), START_TIMEOUT)

    async def watch(self) -> None:
        """Load the rules once every target has been scraped.

        Prometheus takes 5 s to find its targets, which divided waits would count as an outage.
        """
        for name, document in rules.rule_files(time=TIME_DIVISOR, size=SIZE_DIVISOR).items():
            (self._folder / "rules" / f"{name}.yaml").write_text(rules.dump_yaml(document))
        await eventually(self.is_good, START_TIMEOUT)
        self._prometheus_process.send_signal(signal.SIGHUP)
        await eventually(self.groups, START_TIMEOUT)

    async def scrape(self, job: str, targets: list[str]) -> None:
        """Change the targets of a job; Prometheus takes 5 s to find them."""
        file = self._folder / "prometheus.yml"
        config = yaml.safe_load(file.read_text())
        (found,) = (each for each in config["scrape_configs"] if each["job_name"] == job)
        found["static_configs"] = [{"targets": targets}]
        file.write_text(yaml.safe_dump(config))
        self._prometheus_process.send_signal(signal.SIGHUP)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    async def active(self) -> set[str]:
        """Return the alerts that Alertmanager neither inhibits nor silences, with their distinguishing label."""
        found = await self._get(self._alertmanager, "/api/v2/alerts?active=true&inhibited=false&silenced=false")
        return {_name(alert["labels"]) for alert in found} - {"Watchdog"}

    async def groups(self) -> list[Group]:
        found = await self._get(self._prometheus, "/api/v1/rules?type=alert")
        return [
            Group(group["name"], group["lastEvaluation"], _firing(group["rules"])) for group in found["data"]["groups"]
        ]

    async def query(self, query: str) -> str:
        """Return the result of a query, with its durations divided: a line with labels and value for each series."""
        divided = rules.DURATION_PATTERN.sub(lambda found: rules.divide_duration(found[0], TIME_DIVISOR), query)
        found = await self._get(self._prometheus, f"/api/v1/query?query={quote(divided)}")
        series = [(json.dumps(each["metric"], sort_keys=True), each["value"][1]) for each in found["data"]["result"]]
        return "\n".join(f"{labels} {float(value):.6g}" for labels, value in series)

    async def is_good(self) -> bool:
        """Return whether every target answers, and the probe succeeds."""
        return (await self.query("min(up) * min(support_probe_success)")).endswith(" 1")

    async def _get(self, port: int, path: str) -> Any:
        async with self._session.get(f"http://127.0.0.1:{port}{path}") as response:
            return await response.json()

    async def _ready(self, port: int) -> bool:
        try:
            async with self._session.get(f"http://127.0.0.1:{port}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def _configure_prometheus(self) -> None:
        config = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": SCRAPE, "evaluation_interval": f"{round(EVALUATION_SECONDS * 1000)}ms"}
        managers = config["alerting"]["alertmanagers"]
        managers[0]["static_configs"][0]["targets"] = [f"127.0.0.1:{self._alertmanager}"]
        config["scrape_configs"] = [
            job | {"enable_compression": False, "static_configs": [{"targets": self._targets[job["job_name"]]}]}
            for job in config["scrape_configs"]
            if job["job_name"] in self._targets
        ]
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (self._folder / "rules").mkdir()

    def _configure_alertmanager(self) -> None:
        source = OBSERVABILITY / "alertmanager"
        shutil.copytree(source / "templates", self._folder / "templates")
        text = WAIT.sub(
            lambda wait: f"{wait[1]}{rules.divide_duration(wait[2], TIME_DIVISOR)}",
            (source / "alertmanager.yml").read_text(),
        )
        config = yaml.safe_load(text)
        for receiver in config["receivers"]:
            receiver.pop("email_configs", None)  # there is no mail server in the drill
        (self._folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        secrets = self._folder / "secrets"
        secrets.mkdir()
        (secrets / "slack_api_url").write_text(self._receiver.url("/slack"))
        (secrets / "pager_url").write_text(self._receiver.url("/pager"))
        (secrets / "dead_mans_switch_url").write_text(self._receiver.url("/watchdog"))
        (secrets / "smtp_password").write_text("none")

    def _write_history(self) -> None:
        """Write the history: seven days of cases and requests, one of the cache, three of what the objectives count."""
        now = time.time()
        lines: list[str] = []

        def series(values: dict[str, float], days: float, *, counter: bool = False) -> None:
            steps = round(days * 86_400 / TIME_DIVISOR / STEP)
            for name, value in values.items():
                family = name.partition("{")[0]
                lines.append(f"# TYPE {family} unknown\n") if f"# TYPE {family} unknown\n" not in lines else None
                for step in range(steps):
                    sample = value * step * STEP if counter else value
                    lines.append(f"{name} {sample:g} {now - (steps - step) * STEP:.3f}\n")

        series(TICKETS, 7.1)
        series(CACHE, 1)
        series(ROUTES, 2)
        series(COUNTERS, 3, counter=True)
        series(RECEIVED, 7.1, counter=True)
        history = self._folder / "history.txt"
        history.write_text("".join(lines) + "# EOF\n")
        subprocess.run(
            [
                *(find_binary("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=192h"),
                *("openmetrics", history, self._folder / "data"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{Path(command[0]).name}.log").open("ab")
        with log:
            process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        self._processes.append(process)
        return process


def _firing(alerts: list[dict[str, Any]]) -> set[str]:
    return {alert["name"] for alert in alerts if alert["state"] == "firing"} - {"Watchdog"}


def _name(labels: dict[str, str]) -> str:
    detail = labels.get("dependency") or labels.get("stage") or labels.get("direction")
    return f"{labels['alertname']}[{detail}]" if detail else labels["alertname"]

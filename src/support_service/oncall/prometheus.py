"""The alerts of a Prometheus. It also knows the other replicas, the probe, and the days before."""

import json
from datetime import datetime
from typing import Any

import aiohttp

from support_service.oncall.judge import SERVICE, Finding, own_labels
from support_service.oncall.rules import Rules
from support_service.platform.http_client import describe_client_error

PROMETHEUS = "prometheus"  # found by it
WATCHDOG = "Watchdog"  # fires while the rules are evaluated


class PrometheusAlerts:
    """Reads the alerts of one Prometheus."""

    def __init__(self, session: aiohttp.ClientSession, url: str, rules: Rules) -> None:
        self._session = session
        self._url = url
        self._rules = rules

    async def read(self) -> list[Finding] | str:
        """Return the alerts of this service that are pending or fire, or why they can't be read."""
        try:
            async with self._session.get(f"{self._url}/api/v1/alerts") as response:
                if response.status != 200:  # noqa: PLR2004 - HTTP's own
                    return f"It answers with status {response.status}."
                alerts = json.loads(await response.read())["data"]["alerts"]
                if not any(each["labels"]["alertname"] == WATCHDOG for each in alerts):
                    return f"It does not evaluate the rules of this service: {WATCHDOG} is missing."
                return [finding for each in alerts if (finding := self._finding(each)) is not None]
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            return f"{describe_client_error(failure)}."
        except (ValueError, KeyError, TypeError):
            return "Its answer is not one of Prometheus."

    def _finding(self, alert: dict[str, Any]) -> Finding | None:
        labels = alert["labels"]
        rule = self._rules.alerts.get(labels["alertname"])
        if rule is None or labels.get("service", SERVICE) != SERVICE:
            return None
        return Finding(
            rule,
            own_labels(labels),
            datetime.fromisoformat(alert["activeAt"]),
            alert["state"] == "firing",
            float(alert["value"]),
            replicas=(labels["instance"],) if "instance" in labels else (),
            found_by=(PROMETHEUS,),
            summary=alert["annotations"].get("summary"),
        )

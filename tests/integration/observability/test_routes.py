"""Alertmanager's routing and inhibitions, as amtool reads them."""

import subprocess
from pathlib import Path

import pytest
import yaml
from observability.signals import ALERTS

from tests.support.servers import MissingServer, find_binary

CONFIG = Path(__file__).parents[3] / "observability" / "alertmanager" / "alertmanager.yml"
DEPLOYMENT = ["service", "cluster", "environment"]  # labels
RECEIVERS = {"critical": "pager,data-ops", "warning": "data-ops", "none": "dead-mans-switch"}


@pytest.fixture(scope="module")
def amtool(servers: None) -> str:
    try:
        return find_binary("amtool")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load(CONFIG.read_text())


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_accepts_the_configuration_and_its_templates(amtool):
    assert "1 templates" in run(amtool, "check-config", CONFIG)


def test_routes_distinguish_alerts_by_severity_alone(config):
    """Only the watchdog is named by a route, and it has a severity of its own."""
    matchers = {matcher for route in config["route"]["routes"] for matcher in route["matchers"]}
    assert matchers == {'alertname="Watchdog"', 'severity="critical"', 'severity="warning"'}
    assert {alert.name for alert in ALERTS if alert.severity == "none"} == {"Watchdog"}
    assert {alert.severity for alert in ALERTS} == RECEIVERS.keys()


def test_alert_is_routed_by_its_severity(amtool):
    """Critical alerts go to the pager and Slack, warnings to Slack, the watchdog to the dead man's switch.

    An alert with an unknown severity reaches Slack.
    """
    routed = {
        next(each.name for each in ALERTS if each.severity == severity): (severity, receivers)
        for severity, receivers in RECEIVERS.items()
    }
    for name, (severity, receivers) in (routed | {"Other": ("odd", "data-ops")}).items():
        labels = [f"alertname={name}", f"severity={severity}", "team=data-ops", "service=support-service"]
        verified = f"--verify.receivers={receivers}"
        run(amtool, "config", "routes", "test", "--config.file", CONFIG, verified, *labels)


def test_slack_message_has_channel_runbook_and_resolution(config):
    """The channel is #data-ops, the title links to the runbook, and resolved alerts are sent too."""
    (receiver,) = (receiver for receiver in config["receivers"] if receiver["name"] == "data-ops")
    (slack,) = receiver["slack_configs"]
    assert slack["channel"] == "#data-ops"
    assert "support.runbook" in slack["title_link"]
    assert slack["send_resolved"]
    assert receiver["email_configs"]


def test_secrets_are_read_from_files(config):
    """The configuration itself contains no secret."""
    text = CONFIG.read_text()
    assert config["global"].keys() >= {"slack_api_url_file", "smtp_auth_password_file"}
    assert "hooks.slack.com" not in text
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            assert set(webhook) & {"url", "url_file"} == {"url_file"}


def test_inhibitions_refer_to_existing_alerts(config):
    """An inhibition of an unknown alert would have no effect and no error. None mutes alerts of another cluster.

    The dead man's switch does not trigger because another alert fires.
    """
    (down,) = (rule for rule in config["inhibit_rules"] if "SupportServiceDown" in rule["source_matchers"][0])
    assert "Watchdog" in down["target_matchers"][0]
    names = {alert.name for alert in ALERTS}
    for rule in config["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, _, values = matcher.partition("=" if "!~" not in matcher else "!~")
            if label == "alertname":
                assert set(values.strip('~"').split("|")) <= names, matcher
        assert rule is down or "Watchdog" not in str(rule["target_matchers"])
        assert rule["equal"] in (DEPLOYMENT, [*DEPLOYMENT, "instance"], [*DEPLOYMENT, "dependency"])

"""Who is told what: the routing table and the inhibitions, as amtool reads them."""

import subprocess
from pathlib import Path

import pytest
import yaml
from observability import rules

from tests.support.servers import MissingServer, find_binary

CONFIG = Path(__file__).parents[3] / "observability" / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"critical": "pager,data-ops", "warning": "data-ops", "none": "dead-mans-switch"}


@pytest.fixture(scope="module")
def amtool(servers: None) -> str:
    """Alertmanager's tool."""
    try:
        return find_binary("amtool")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture(scope="module")
def config():
    """The configuration."""
    return yaml.safe_load(CONFIG.read_text())


def run(*command: object) -> str:
    """What a command prints; fails where the command does."""
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_takes_the_configuration(amtool):
    """`amtool check-config` reads it, and its templates."""
    assert "1 templates" in run(amtool, "check-config", CONFIG)


@pytest.mark.parametrize("alert", rules.ALERTS, ids=lambda alert: alert.name)
def test_an_alert_reaches_whom_its_severity_names(amtool, alert):
    """Critical ones call the pager and stand in Slack, warnings stand in Slack, the watchdog feeds its switch."""
    labels = [f"alertname={alert.name}", f"severity={alert.severity}", "team=data-ops", "service=support-service"]
    receivers = RECEIVERS[alert.severity]
    run(amtool, "config", "routes", "test", "--config.file", CONFIG, f"--verify.receivers={receivers}", *labels)


def test_what_nobody_thought_of_reaches_slack(amtool):
    """An alert with a severity of its own is read by people, and not lost."""
    run(amtool, "config", "routes", "test", "--config.file", CONFIG, "--verify.receivers=data-ops", "severity=odd")


def test_slack_gets_it_in_data_ops_with_the_runbook(config):
    """The channel is #data-ops, the title leads to the runbook, and what is over is said too."""
    (receiver,) = (receiver for receiver in config["receivers"] if receiver["name"] == "data-ops")
    (slack,) = receiver["slack_configs"]
    assert slack["channel"] == "#data-ops"
    assert "support.runbook" in slack["title_link"]
    assert slack["send_resolved"]
    assert receiver["email_configs"]


def test_secrets_are_in_files(config):
    """No secret stands in the configuration: each is read from a file."""
    text = CONFIG.read_text()
    assert config["global"].keys() >= {"slack_api_url_file", "smtp_auth_password_file"}
    assert "hooks.slack.com" not in text
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            assert set(webhook) & {"url", "url_file"} == {"url_file"}


def test_inhibitions_name_alerts_that_exist(config):
    """An inhibition of an alert that is none would silence nothing, and nobody would know."""
    names = {alert.name for alert in rules.ALERTS}
    for rule in config["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, _, values = matcher.partition("=" if "!~" not in matcher else "!~")
            if label == "alertname":
                assert set(values.strip('~"').split("|")) <= names, matcher
        assert rule["equal"] == ["service"]


def test_nothing_inhibits_the_watchdog(config):
    """The dead man's switch must not go off because something else fires."""
    (down,) = (rule for rule in config["inhibit_rules"] if "SupportServiceDown" in rule["source_matchers"][0])
    assert "Watchdog" in down["target_matchers"][0]
    for rule in config["inhibit_rules"]:
        if rule is not down:
            assert "Watchdog" not in str(rule["target_matchers"])

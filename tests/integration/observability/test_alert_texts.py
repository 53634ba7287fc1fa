"""What alerts say when they fire, as Prometheus renders it."""

import re
import subprocess

import yaml
from observability import rules
from observability.faults import promtool_test_file
from observability.signal import duration_seconds
from observability.signals import ALERTS, FAULTS
from observability.signals.probe_flapping import PROBE_WINDOW

from tests.support.each import each

ALERTMANAGER = rules.PROMETHEUS_FOLDER.parent / "alertmanager"
OWN = re.compile(r'(\w+)="')
MINUTES = 40  # longer than each of these alerts waits
JOB = 'job="support-service"'


def series(name, label, values, others=""):
    """Return series of a metric by the values of a label. A number is added each minute, and a text is kept."""
    return {f'{name}{{{label}="{value}"{others and f",{others}"}}}': given for value, given in values.items()}


def requests(given, of=""):
    """Return the requests each minute by route and status."""
    name = "http_server_request_duration_seconds_count"
    pairs = {tuple(each.split()): number for each, number in given.items()}
    return {
        f'{name}{{{of}{JOB},http_route="{route}",http_response_status_code="{status}"}}': number
        for (route, status), number in pairs.items()
    }


def probe(service, ingress=None):
    success = series("support_probe_success", "via", {"service": service, "ingress": ingress}, 'instance="probe"')
    return {name: value for name, value in success.items() if value is not None}


def failing(via, step):
    return series("support_probe_step_failure", "via", {via: "1"}, step)


def operations(instance, error, number, system="postgresql", name="SELECT"):
    of = f'{JOB},instance="{instance}",' if instance else f"{JOB},"
    labels = f'db_system_name="{system}",db_operation_name="{name}",error_type="{error}"'
    return {f"db_client_operation_duration_seconds_count{{{of}{labels}}}": number}


def redis(server, role="master", used="0"):
    """Return what is known of a server whose memory has 100 bytes."""
    return {
        f'support_redis_role{{server="{server}",role="{role}"}}': "1",
        f'support_redis_memory_usage_bytes{{server="{server}"}}': used,
        f'support_redis_memory_limit_bytes{{server="{server}"}}': "100",
    }


def request_times(instance, edge):
    """Return series of 60 requests a minute that take at most so long, and longer than the edges before."""
    name, of = "http_server_request_duration_seconds", f'http_request_method="POST",{CASES},{JOB}'
    edges = {each: 60 * (float(each) >= float(edge)) for each in ("0.025", "1", "2.5", "+Inf")}
    buckets = series(f"{name}_bucket", "le", edges, f'instance="{instance}",{of}')
    return buckets | series(f"{name}_count", "instance", {instance: 60}, of)


CASES = 'http_route="/support/cases"'
TRANSFERS, AUTHENTICATIONS = "support_attachment_transfers_total", "support_access_authentications_total"
CALLERS, STATUS = "support_access_callers", "support_dependency_status"
FILES, CASE = "/support/cases/{case_id}/attachments", "/support/cases/{case_id}"
UPLOAD, VIA_SERVICE = 'transfer="upload"', 'via="service"'
MOSTLY_FILES = "in the last 5m, mostly /support/cases/{case_id}/attachments with 507"
TEXTS = {
    "SupportApiErrorBudgetBurnFast": (
        requests({"/support/cases 200": 90, "/support/cases 503": 6, f"{CASE} 503": 4}),
        "API availability: 10% of API requests returned 5xx in the last 5m, mostly /support/cases with 503",
    ),
    "SupportApiErrorBudgetBurnFast, explained": (
        requests({"/support/cases 200": 90, f"{FILES} 507": 8, "/support/cases 503": 1})
        | series(TRANSFERS, "outcome", {"full": 5}, UPLOAD)
        | series("support_attachment_unreadable_total", "kind", {"missing": 3}, 'storage="local"'),
        f"API availability: 9.091% of API requests returned 5xx {MOSTLY_FILES}",
    ),
    "SupportApiErrorBudgetBurnFast, explained in part": (
        requests({"/support/cases 200": 90, f"{FILES} 507": 8, "/support/cases 503": 2})
        | series(TRANSFERS, "outcome", {"full": 8}, UPLOAD),
        f"API availability: 10% of API requests returned 5xx {MOSTLY_FILES}",
    ),
    "SupportProbeFailing": (
        probe("0", "0")
        | failing("service", 'step="upload",status="503",code="storage_full"')
        | failing("ingress", 'step="open",status="502"'),
        (
            "The synthetic check of a whole case fails at step upload with 503 storage_full: none of the requests "
            "that reach a replica get a 5xx"
        ),
    ),
    "SupportIngressFailing": (
        probe("1", "0")
        | failing("ingress", 'step="open",status="404"')
        | series("support_request_received_total", "synthetic", {"other": 120}),
        (
            "The check through the ingress fails at step open with 404, and directly it succeeds. 2 requests a second "
            "of others arrive, an hour ago none"
        ),
    ),
    "SupportIngressFailing, large files": (
        probe("1", "0")
        | series("support_probe_upload_size_bytes", "via", {"ingress": "26214400"}, 'instance="probe"')
        | failing("ingress", 'step="upload",status="413"'),
        (
            "The check through the ingress fails at step upload of 25MiB with 413, and directly it succeeds. No "
            "requests a second of others arrive, an hour ago none"
        ),
    ),
    "SupportReplicaNotReady": (
        series("support_replica_ready", "instance", {"a": "0"}, JOB)
        | series(STATUS, "instance", {"a": "1"}, 'dependency="database",status="database_unavailable"')
        | series(STATUS, "instance", {"a": "1"}, 'dependency="cache",status="ok"')
        | series(STATUS, "instance", {"b": "1"}, 'dependency="events",status="broker_unavailable"'),
        "The replica a runs and gets no requests: not ready, database: database_unavailable",
    ),
    "SupportRequestsTurnedAway": (
        series("support_request_received_total", "synthetic", {"other": 100})
        | series("support_request_turned_away_total", "reason", {"lag": 5, "address": 20}),
        "Limits refuse 25% of requests, mostly for the reason address",
    ),
    "SupportRedisFailing": (
        operations("", "timeout", 12, "redis", "XADD")
        | redis("events", "replica")
        | series("support_redis_memory_usage_bytes", "server", {"cache": "99"}),
        "Redis fails for 100% of the operations on event streams. Its server is a replica, which refuses changes",
    ),
    "SupportTimelineCacheErrors": (
        series("support_timeline_cache_events_total", "event", {"hit": 10, "miss": 90, "error": 214})
        | operations("", "_OTHER", 12, "redis", "XADD")
        | redis("cache", "replica")
        | redis("events"),
        (
            "Redis fails: 2.14 operations of the cache fail for each timeline read, and 90% of reads miss it. Its "
            "server is a replica, which refuses changes"
        ),
    ),
    "SupportRedisFailing, full": (
        operations("", "_OTHER", 12, "redis", "XADD") | redis("events", used="99"),
        "Redis fails for 100% of the operations on event streams. Its memory is full",
    ),
    "SupportDatabaseFailing": (
        operations("a", "", 300)
        | operations("a", "_OTHER", 100)
        | operations("b", "", 400)
        | requests({"/support/cases 200": 97, "/support/cases 503": 3}),
        "25% of the database operations of a fail: 3% of the requests that reach a replica get a 5xx",
    ),
    "SupportAccessRefused": (
        series(AUTHENTICATIONS, "outcome", {"accepted": 60, "invalid": 40})
        | series(CALLERS, "outcome", {"accepted": "12", "refused": "8"}),
        "8 of 20 callers are refused, with 40% of all authentications, mostly with the outcome invalid",
    ),
    "SupportCallerRefused": (
        series(AUTHENTICATIONS, "outcome", {"accepted": 81, "expired": 81})
        | series(CALLERS, "outcome", {"accepted": "12", "refused": "1"}),
        "1 of 13 callers are refused again and again, with 50% of all authentications, mostly with the outcome expired",
    ),
    "SupportWritesForbidden": (
        requests({"/support/cases 201": 5, "/support/cases 403": 95}, 'http_request_method="POST",')
        | series(CALLERS, "outcome", {"writing": "40", "forbidden": "38"}),
        "95% of changes are refused with 403, of 38 of 40 callers, mostly /support/cases",
    ),
    "SupportUploadsRefused": (
        series(TRANSFERS, "outcome", {"disk": 10}, f'instance="a",{UPLOAD}')
        | series(TRANSFERS, "outcome", {"disk": 0, "ok": 90}, f'instance="b",{UPLOAD}'),
        "10% of uploads fail (disk): their store refuses files of 1 of 2 replicas, mostly of a",
    ),
    "SupportEventsConsumerStalled": (
        {"support_events_stream_lag": "300"} | series("support_events_consumed_total", "outcome", {"failed": 60}),
        "300 events of other services wait: none is applied",
    ),
    "SupportEventsConsumerStalled, too slow": (
        {"support_events_stream_lag": "9000"} | series("support_events_consumed_total", "outcome", {"applied": 60}),
        "9k events of other services wait: 1 a second are applied, too few",
    ),
    "SupportClientErrorsHigh": (
        requests({f"/support/cases {status}": number for status, number in ((201, 50), (422, 40), (400, 10))})
        | requests({"/support/macros 400": 1}),
        "50% of requests to /support/cases are client errors, mostly 422",
    ),
    "SupportTimelineErrorBudgetBurnFast": (
        series("support_timeline_read_seconds_count", "completeness", {"complete": 60, "partial": 40})
        | series("support_timeline_read_seconds_bucket", "completeness", {"complete": 60}, 'le="2.0"')
        | series("support_timeline_source_seconds_count", "service", {"payment": 3}, 'outcome="timeout"')
        | series("support_timeline_source_seconds_count", "service", {"order": 1}, 'outcome="error"'),
        (
            "Complete timelines in time: 40% of timeline reads were partial or took more than 2 s in the last 5m, "
            "mostly because payment is: timeout"
        ),
    ),
    "SupportProbeFlapping": (
        probe("1 0 " * (MINUTES // 2))
        | series("support_probe_step_success", "step", {"open": "1", "upload": "1 0 " * (MINUTES // 2)}, VIA_SERVICE),
        "The synthetic check of a whole case fails again and again, mostly at step upload: 50% of its runs are good",
    ),
    "SupportApiLatencyHigh": (
        request_times("a", "2.5"),
        "POST /support/cases is slow: 5 of 100 requests take over 2.425s",
    ),
    "SupportReplicaSlow": (
        request_times("a", "2.5") | request_times("b", "0.025"),
        (
            "a is slow: 5 of 100 of its requests take over 2.425s, 102 times as long as on the fastest replica. It "
            "gets 50% of all requests"
        ),
    ),
    "SupportReplicaDependencyFailing": (
        series(STATUS, "instance", {"a": "1"}, f'{JOB},dependency="cache",status="cache_unavailable"')
        | series(STATUS, "instance", {"b": "1", "c": "1"}, f'{JOB},dependency="cache",status="ok"')
        | series("http_server_request_duration_seconds_count", "instance", {"a": 30, "b": 90}, JOB),
        "a can't use cache (cache_unavailable), which the other replicas can. It gets 25% of all requests",
    ),
}
OWN_LABELS = {
    "SupportUploadsRefused": {"outcome": "disk"},
    "SupportApiErrorBudgetBurnFast, explained": {"explained": "attachments"},
    "SupportClientErrorsHigh": {"http_route": "/support/cases"},
    "SupportProbeFlapping": {"instance": "probe", "via": "service"},
    "SupportProbeFailing": {"instance": "probe"},
    "SupportIngressFailing": {"instance": "probe"},
    "SupportReplicaNotReady": {"instance": "a"},
    "SupportApiLatencyHigh": {"http_request_method": "POST", "http_route": "/support/cases"},
    "SupportReplicaSlow": {"instance": "a"},
    "SupportReplicaDependencyFailing": {"instance": "a", "dependency": "cache"},
    "SupportDatabaseFailing": {"instance": "a"},
}


def test_summaries_name_the_impact_and_what_fails(promtool, tmp_path):
    """A summary has the values of the moment: share, route and status, step, reason, or dependency."""
    rule_files, test_files = tmp_path / "rules", tmp_path / "tests"
    for folder in (rule_files, test_files):
        folder.mkdir()
    for group, document in rules.rule_files().items():
        alerts = [rule for rule in document["groups"][0]["rules"] if "alert" in rule]
        for rule in alerts:  # promtool compares all annotations
            rule["annotations"] = {"summary": rule["annotations"]["summary"]}
        (rule_files / f"{group}.yaml").write_text(rules.dump_yaml(document))
        names = {rule["alert"] for rule in alerts}
        tests = [summary_test(case, *TEXTS[case]) for case in TEXTS if case.partition(",")[0] in names]
        (test_files / f"{group}.yaml").write_text(rules.dump_yaml(promtool_test_file(tests, [group])))
    command = [promtool, "test", "rules", *test_files.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def sampled(value):
    return f"0+{value}x{MINUTES}" if isinstance(value, int) else value if " " in value else f"{value}x{MINUTES}"


def summary_test(case, given, summary):
    """Return promtool's test that an alert has this summary after `MINUTES` of these series."""
    name = case.partition(",")[0]
    (alert,) = (each for each in ALERTS if each.name == name)
    labels = {"severity": alert.severity, "team": rules.TEAM, "service": rules.SERVICE}
    labels |= OWN_LABELS.get(case, OWN_LABELS.get(name, {}))
    told = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    return {
        "name": case,
        "interval": "1m",
        "input_series": [{"series": each, "values": sampled(values)} for each, values in given.items()],
        "alert_rule_test": [{"alertname": name, "eval_time": f"{MINUTES - 1}m", "exp_alerts": [told]}],
    }


def test_summary_names_what_an_alert_distinguishes():
    """Where an alert fires for each instance, dependency, stage or route, its summary says for which."""
    told = {alert for fault in FAULTS.values() for alert in fault.alerts}
    own = {(name, label) for name, _, labels in (each.partition("{") for each in told) for label in OWN.findall(labels)}
    summaries = {alert.name: alert.summary for alert in ALERTS}
    assert {label for _, label in own} >= {"instance", "dependency", "stage", "resource", "endpoint", "http_route"}
    assert [(name, label) for name, label in sorted(own) if f"$labels.{label}" not in summaries[name]] == []


# What a summary says as it is, because the condition of its alert is that there is none, or is one replica's own state.
KNOWN_ABSOLUTELY = {
    "SupportServiceDown",  # no replica answers a scrape
    "SupportMetricsMissing",  # likewise, while the probe succeeds
    "SupportProbeMissing",
    "SupportNoTraffic",  # no request in a window
    "SupportWebhooksFailing",  # none succeeded in a window, of the endpoint that it names
    "SupportClockOffset",  # of all replicas, if all of them differ
    "SupportReplicaDown",
    "SupportReplicaNotReady",
    "Watchdog",  # a machine reads it
}
ABSOLUTE = re.compile(
    r"\b(no|none|nobody|nothing|never|(?:is|are|do|does) not|cannot|neither|all|every|everybody|stopped|without)\b",
    re.IGNORECASE,
)
ALL_PEOPLE = re.compile(r"\b(Agents|Callers|Customers|Users) (can|cannot|reach)\b")
TEMPLATE = re.compile(r"\{\{ else \}\}.*?\{\{ end \}\}|\{\{.*?\}\}| of all (requests|authentications)\b")


@each(alert=[alert for alert in ALERTS if alert.name not in KNOWN_ABSOLUTELY])
def test_alert_claims_no_more_than_is_known(alert):
    """A share is said as a share, of all requests or of one replica; nothing is said of all agents or all requests.

    Alerts that said it were sent while 90 to 99 % of requests succeeded.
    """
    assert not ABSOLUTE.search(TEMPLATE.sub("", alert.summary))
    assert not ALL_PEOPLE.search(alert.description)
    if "$value | humanizePercentage" in alert.description:
        assert "humanizePercentage" in alert.summary


def test_queries_of_summaries_are_of_the_last_minutes():
    """A query of a summary looks back 15 minutes at most: the mean of an hour says little about the present."""
    for alert in ALERTS:
        for window in re.findall(r"\[(\d+[smhd])\]", alert.summary):
            assert duration_seconds(window) <= duration_seconds(PROBE_WINDOW), alert.name


def test_every_message_names_cluster_and_environment():
    """They are in the title of Slack's message and of the mail, and alerts of two clusters are two messages."""
    template = (ALERTMANAGER / "templates" / "support.tmpl").read_text()
    title = template[template.index('define "support.title"') : template.index("{{- end }}")]
    assert ".CommonLabels.cluster" in title
    assert ".CommonLabels.environment" in title
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    assert {"cluster", "environment"} <= {*config["route"]["group_by"]}
    (receiver,) = (each for each in config["receivers"] if each["name"] == "data-ops")
    assert receiver["slack_configs"][0]["title"] == receiver["email_configs"][0]["headers"]["Subject"]
    external = yaml.safe_load((rules.PROMETHEUS_FOLDER / "prometheus.yml").read_text())["global"]["external_labels"]
    assert {"cluster", "environment"} <= external.keys()

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

REQUESTS = (
    'http_server_request_duration_seconds_count{job="support-service",http_route="%s",http_response_status_code="%s"}'
)
CHANGES = REQUESTS.replace("{", '{http_request_method="POST",')
ALERTMANAGER = rules.PROMETHEUS_FOLDER.parent / "alertmanager"
OWN = re.compile(r'(\w+)="')
MINUTES = 40  # longer than each of these alerts waits
TEXTS = {
    "SupportApiErrorBudgetBurnFast": (
        {
            REQUESTS % ("/support/cases", "200"): f"0+90x{MINUTES}",
            REQUESTS % ("/support/cases", "503"): f"0+6x{MINUTES}",
            REQUESTS % ("/support/cases/{case_id}", "503"): f"0+4x{MINUTES}",
        },
        "API availability: 10% of API requests returned 5xx in the last 5m, mostly /support/cases with 503",
    ),
    "SupportApiErrorBudgetBurnFast, explained": (
        {
            REQUESTS % ("/support/cases", "200"): f"0+90x{MINUTES}",
            REQUESTS % ("/support/cases/{case_id}/attachments", "507"): f"0+8x{MINUTES}",
            REQUESTS % ("/support/cases", "503"): f"0+1x{MINUTES}",
            'support_attachment_transfers_total{transfer="upload",outcome="full"}': f"0+5x{MINUTES}",
            'support_attachment_unreadable_total{storage="local",kind="missing"}': f"0+3x{MINUTES}",
        },
        (
            "API availability: 9.091% of API requests returned 5xx in the last 5m, mostly "
            "/support/cases/{case_id}/attachments with 507"
        ),
    ),
    "SupportApiErrorBudgetBurnFast, explained in part": (
        {
            REQUESTS % ("/support/cases", "200"): f"0+90x{MINUTES}",
            REQUESTS % ("/support/cases/{case_id}/attachments", "507"): f"0+8x{MINUTES}",
            REQUESTS % ("/support/cases", "503"): f"0+2x{MINUTES}",
            'support_attachment_transfers_total{transfer="upload",outcome="full"}': f"0+8x{MINUTES}",
        },
        (
            "API availability: 10% of API requests returned 5xx in the last 5m, mostly "
            "/support/cases/{case_id}/attachments with 507"
        ),
    ),
    "SupportProbeFailing": (
        {
            'support_probe_success{instance="probe",via="service"}': f"0x{MINUTES}",
            'support_probe_success{instance="probe",via="ingress"}': f"0x{MINUTES}",
            'support_probe_step_failure{via="service",step="upload",status="503",code="storage_full"}': f"1x{MINUTES}",
            'support_probe_step_failure{via="ingress",step="open",status="502"}': f"1x{MINUTES}",
        },
        (
            "The synthetic check of a whole case fails at step upload with 503 storage_full: none of the requests "
            "that reach a replica get a 5xx"
        ),
    ),
    "SupportIngressFailing": (
        {
            'support_probe_success{instance="probe",via="service"}': f"1x{MINUTES}",
            'support_probe_success{instance="probe",via="ingress"}': f"0x{MINUTES}",
            'support_probe_step_failure{via="ingress",step="open",status="404"}': f"1x{MINUTES}",
            'support_request_received_total{synthetic="other"}': f"0+120x{MINUTES}",
        },
        (
            "The check through the ingress fails at step open with 404, and directly it succeeds. 2 requests a second "
            "of others arrive, an hour ago none"
        ),
    ),
    "SupportIngressFailing, large files": (
        {
            'support_probe_success{instance="probe",via="service"}': f"1x{MINUTES}",
            'support_probe_success{instance="probe",via="ingress"}': f"0x{MINUTES}",
            'support_probe_upload_size_bytes{instance="probe",via="ingress"}': f"26214400x{MINUTES}",
            'support_probe_step_failure{via="ingress",step="upload",status="413"}': f"1x{MINUTES}",
        },
        (
            "The check through the ingress fails at step upload of 25MiB with 413, and directly it succeeds. No "
            "requests a second of others arrive, an hour ago none"
        ),
    ),
    "SupportReplicaNotReady": (
        {
            'support_replica_ready{job="support-service",instance="a"}': f"0x{MINUTES}",
            'support_dependency_status{instance="a",dependency="database",status="database_unavailable"}': "1x40",
            'support_dependency_status{instance="a",dependency="cache",status="ok"}': f"1x{MINUTES}",
            'support_dependency_status{instance="b",dependency="events",status="broker_unavailable"}': f"1x{MINUTES}",
        },
        "The replica a runs and gets no requests: not ready, database: database_unavailable",
    ),
    "SupportRequestsTurnedAway": (
        {
            'support_request_received_total{synthetic="other"}': f"0+100x{MINUTES}",
            'support_request_turned_away_total{reason="lag"}': f"0+5x{MINUTES}",
            'support_request_turned_away_total{reason="address"}': f"0+20x{MINUTES}",
        },
        "Limits refuse 25% of requests, mostly for the reason address",
    ),
    "SupportRedisFailing": (
        {
            'db_client_operation_duration_seconds_count{job="support-service",db_system_name="redis",'
            'db_operation_name="XADD",error_type="timeout"}': f"0+12x{MINUTES}",
            'support_redis_role{server="events",role="replica"}': f"1x{MINUTES}",
            'support_redis_memory_usage_bytes{server="cache"}': f"99x{MINUTES}",
            'support_redis_memory_limit_bytes{server="cache"}': f"100x{MINUTES}",
        },
        "Redis fails for 100% of the operations on event streams. Its server is a replica, which refuses changes",
    ),
    "SupportTimelineCacheErrors": (
        {
            'support_timeline_cache_events_total{event="hit"}': f"0+10x{MINUTES}",
            'support_timeline_cache_events_total{event="miss"}': f"0+90x{MINUTES}",
            'support_timeline_cache_events_total{event="error"}': f"0+214x{MINUTES}",
            'db_client_operation_duration_seconds_count{job="support-service",db_system_name="redis",'
            'db_operation_name="XADD",error_type="_OTHER"}': f"0+12x{MINUTES}",
            'support_redis_role{server="cache",role="replica"}': f"1x{MINUTES}",
            'support_redis_role{server="events",role="master"}': f"1x{MINUTES}",
        },
        (
            "Redis fails: 2.14 operations of the cache fail for each timeline read, and 90% of reads miss it. Its "
            "server is a replica, which refuses changes"
        ),
    ),
    "SupportRedisFailing, full": (
        {
            'db_client_operation_duration_seconds_count{job="support-service",db_system_name="redis",'
            'db_operation_name="XADD",error_type="_OTHER"}': f"0+12x{MINUTES}",
            'support_redis_role{server="events",role="master"}': f"1x{MINUTES}",
            'support_redis_memory_usage_bytes{server="events"}': f"99x{MINUTES}",
            'support_redis_memory_limit_bytes{server="events"}': f"100x{MINUTES}",
        },
        "Redis fails for 100% of the operations on event streams. Its memory is full",
    ),
}
OPERATIONS = (
    'db_client_operation_duration_seconds_count{job="support-service",instance="%s",db_system_name="postgresql",'
    'db_operation_name="SELECT",error_type="%s"}'
)
TEXTS |= {
    "SupportDatabaseFailing": (
        {
            OPERATIONS % ("a", ""): f"0+300x{MINUTES}",
            OPERATIONS % ("a", "_OTHER"): f"0+100x{MINUTES}",
            OPERATIONS % ("b", ""): f"0+400x{MINUTES}",
            REQUESTS % ("/support/cases", "200"): f"0+97x{MINUTES}",
            REQUESTS % ("/support/cases", "503"): f"0+3x{MINUTES}",
        },
        "25% of the database operations of a fail: 3% of the requests that reach a replica get a 5xx",
    ),
    "SupportAccessRefused": (
        {
            'support_access_authentications_total{outcome="accepted"}': f"0+60x{MINUTES}",
            'support_access_authentications_total{outcome="invalid"}': f"0+40x{MINUTES}",
            'support_access_callers{outcome="accepted"}': f"12x{MINUTES}",
            'support_access_callers{outcome="refused"}': f"8x{MINUTES}",
        },
        "8 of 20 callers are refused, with 40% of all authentications, mostly with the outcome invalid",
    ),
    "SupportCallerRefused": (
        {
            'support_access_authentications_total{outcome="accepted"}': f"0+81x{MINUTES}",
            'support_access_authentications_total{outcome="expired"}': f"0+81x{MINUTES}",
            'support_access_callers{outcome="accepted"}': f"12x{MINUTES}",
            'support_access_callers{outcome="refused"}': f"1x{MINUTES}",
        },
        "1 of 13 callers are refused again and again, with 50% of all authentications, mostly with the outcome expired",
    ),
    "SupportWritesForbidden": (
        {
            CHANGES % ("/support/cases", "201"): f"0+5x{MINUTES}",
            CHANGES % ("/support/cases", "403"): f"0+95x{MINUTES}",
            'support_access_callers{outcome="writing"}': f"40x{MINUTES}",
            'support_access_callers{outcome="forbidden"}': f"38x{MINUTES}",
        },
        "95% of changes are refused with 403, of 38 of 40 callers, mostly /support/cases",
    ),
    "SupportUploadsRefused": (
        {
            'support_attachment_transfers_total{instance="a",transfer="upload",outcome="disk"}': f"0+10x{MINUTES}",
            'support_attachment_transfers_total{instance="b",transfer="upload",outcome="disk"}': f"0+0x{MINUTES}",
            'support_attachment_transfers_total{instance="b",transfer="upload",outcome="ok"}': f"0+90x{MINUTES}",
        },
        "10% of uploads fail (disk): their store refuses files of 1 of 2 replicas, mostly of a",
    ),
    "SupportEventsConsumerStalled": (
        {
            "support_events_stream_lag": f"300x{MINUTES}",
            'support_events_consumed_total{outcome="failed"}': f"0+60x{MINUTES}",
        },
        "300 events of other services wait: none is applied",
    ),
    "SupportEventsConsumerStalled, too slow": (
        {
            "support_events_stream_lag": f"9000x{MINUTES}",
            'support_events_consumed_total{outcome="applied"}': f"0+60x{MINUTES}",
        },
        "9k events of other services wait: 1 a second are applied, too few",
    ),
    "SupportClientErrorsHigh": (
        {
            REQUESTS % ("/support/cases", "201"): f"0+50x{MINUTES}",
            REQUESTS % ("/support/cases", "422"): f"0+40x{MINUTES}",
            REQUESTS % ("/support/cases", "400"): f"0+10x{MINUTES}",
            REQUESTS % ("/support/macros", "400"): f"0+1x{MINUTES}",
        },
        "50% of requests to /support/cases are client errors, mostly 422",
    ),
    "SupportTimelineErrorBudgetBurnFast": (
        {
            'support_timeline_read_seconds_count{completeness="complete"}': f"0+60x{MINUTES}",
            'support_timeline_read_seconds_bucket{completeness="complete",le="2.0"}': f"0+60x{MINUTES}",
            'support_timeline_read_seconds_count{completeness="partial"}': f"0+40x{MINUTES}",
            'support_timeline_source_seconds_count{service="payment",outcome="timeout"}': f"0+3x{MINUTES}",
            'support_timeline_source_seconds_count{service="order",outcome="error"}': f"0+1x{MINUTES}",
        },
        (
            "Complete timelines in time: 40% of timeline reads were partial or took more than 2 s in the last 5m, "
            "mostly because payment is: timeout"
        ),
    ),
    "SupportProbeFlapping": (
        {
            'support_probe_success{instance="probe",via="service"}': "1 0 " * (MINUTES // 2),
            'support_probe_step_success{via="service",step="open"}': f"1x{MINUTES}",
            'support_probe_step_success{via="service",step="upload"}': "1 0 " * (MINUTES // 2),
        },
        "The synthetic check of a whole case fails again and again, mostly at step upload: 50% of its runs are good",
    ),
}
BUCKETS = (
    'http_server_request_duration_seconds_%s{job="support-service",instance="%s",http_request_method="POST",'
    'http_route="/support/cases"%s}'
)


def request_times(instance, edge):
    """Return series of 60 requests a minute that take at most so long, and longer than the edges before."""
    edges = {each: 60 * (float(each) >= float(edge)) for each in ("0.025", "1", "2.5", "+Inf")}
    buckets = {BUCKETS % ("bucket", instance, f',le="{each}"'): count for each, count in edges.items()}
    counted = buckets | {BUCKETS % ("count", instance, ""): 60}
    return {series: f"0+{count}x{MINUTES}" for series, count in counted.items()}


TEXTS |= {
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
        {
            f'support_dependency_status{{job="support-service",{labels}}}': f"1x{MINUTES}"
            for labels in (
                'instance="a",dependency="cache",status="cache_unavailable"',
                'instance="b",dependency="cache",status="ok"',
                'instance="c",dependency="cache",status="ok"',
            )
        }
        | {
            'http_server_request_duration_seconds_count{job="support-service",instance="a"}': f"0+30x{MINUTES}",
            'http_server_request_duration_seconds_count{job="support-service",instance="b"}': f"0+90x{MINUTES}",
        },
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


def summary_test(case, series, summary):
    """Return promtool's test that an alert has this summary after `MINUTES` of these series."""
    name = case.partition(",")[0]
    (alert,) = (each for each in ALERTS if each.name == name)
    labels = {"severity": alert.severity, "team": rules.TEAM, "service": rules.SERVICE}
    labels |= OWN_LABELS.get(case, OWN_LABELS.get(name, {}))
    told = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    return {
        "name": case,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
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

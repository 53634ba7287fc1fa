"""What alerts say when they fire, as Prometheus renders it."""

import subprocess

import pytest
import yaml
from observability import rules

REQUESTS = (
    'http_server_request_duration_seconds_count{job="support-service",http_route="%s",http_response_status_code="%s"}'
)
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
    "SupportProbeFailing": (
        {
            'support_probe_success{instance="probe",via="service"}': f"0x{MINUTES}",
            'support_probe_success{instance="probe",via="ingress"}': f"0x{MINUTES}",
            'support_probe_step_failure{via="service",step="upload",status="503",code="storage_full"}': f"1x{MINUTES}",
            'support_probe_step_failure{via="ingress",step="open",status="502"}': f"1x{MINUTES}",
        },
        "The synthetic check of a whole case fails at step upload with 503 storage_full",
    ),
    "SupportIngressFailing": (
        {
            'support_probe_success{instance="probe",via="service"}': f"1x{MINUTES}",
            'support_probe_success{instance="probe",via="ingress"}': f"0x{MINUTES}",
            'support_probe_step_failure{via="ingress",step="open",status="404"}': f"1x{MINUTES}",
        },
        "No agent reaches support-service: its ingress fails at step open with 404",
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
        "Redis fails, events of cases are stopped: its server is a replica, which refuses changes",
    ),
    "SupportRedisFailing, full": (
        {
            'db_client_operation_duration_seconds_count{job="support-service",db_system_name="redis",'
            'db_operation_name="XADD",error_type="_OTHER"}': f"0+12x{MINUTES}",
            'support_redis_role{server="events",role="master"}': f"1x{MINUTES}",
            'support_redis_memory_usage_bytes{server="events"}': f"99x{MINUTES}",
            'support_redis_memory_limit_bytes{server="events"}': f"100x{MINUTES}",
        },
        "Redis fails, events of cases are stopped: its memory is full",
    ),
}
OWN_LABELS = {
    "SupportProbeFailing": {"instance": "probe"},
    "SupportIngressFailing": {"instance": "probe"},
    "SupportReplicaNotReady": {"instance": "a"},
    "SupportRedisFailing": {"dependency": "events"},
}


@pytest.mark.parametrize("case", TEXTS)
def test_summary_names_the_impact_and_what_fails(promtool, tmp_path, case):
    """The summary has the values of the moment: share, route and status, step, reason, or dependency."""
    series, summary = TEXTS[case]
    name = case.partition(",")[0]
    (alert,) = (each for each in rules.ALERTS if each.name == name)
    for group, document in rules.documents().items():
        for rule in document["groups"][0]["rules"]:
            if "alert" in rule:  # promtool compares all annotations
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
        (tmp_path / f"{group}.yaml").write_text(rules.dump(document))
    labels = {"severity": alert.severity, "team": rules.TEAM, "service": rules.SERVICE} | OWN_LABELS.get(name, {})
    told = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"alertname": name, "eval_time": f"{MINUTES - 1}m", "exp_alerts": [told]}],
    }
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["*.yaml"], "evaluation_interval": "1m", "tests": [test]}, sort_keys=False)
    )
    done = subprocess.run(
        [promtool, "test", "rules", file], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""What the probe's metrics say of reports."""

import pytest

from support_service.probe.check import CheckReport, Step
from support_service.probe.run import CheckMetrics
from tests.support.scrape import parse

AT = "2026-11-26T12:00:00+00:00"
WRONG = Step("open", 3, 0.1, "wrong", "404", 404)


@pytest.fixture
def metrics():
    metrics = CheckMetrics(["prometheus"])
    yield metrics
    metrics.close()


def samples(metrics, name):
    text = metrics.provider.render("", "").body.decode()
    return [(labels, value) for sample, labels, value in parse(text) if sample == name]


def report(via, *steps, reason=None):
    return CheckReport("http://service", AT, 1000, via, list(steps), reason)


def test_each_way_to_the_service_has_its_own_result(metrics):
    """A later report by one way leaves that of the other as it is."""
    metrics.keep_report(report("service", Step("open", 3, 0.1, "good")))
    metrics.keep_report(report("ingress", WRONG))
    metrics.keep_report(report("service", Step("open", 3, 4.0, "slow", "slower than the threshold")))
    assert samples(metrics, "support_probe_success") == [({"via": "service"}, 0), ({"via": "ingress"}, 0)]
    sizes = samples(metrics, "support_probe_upload_size_bytes")
    assert sizes == [({"via": via}, 1000) for via in ("service", "ingress")]
    failures = [labels for labels, _ in samples(metrics, "support_probe_step_failure")]
    assert failures == [
        {"via": "service", "step": "open", "status": "", "code": ""},
        {"via": "ingress", "step": "open", "status": "404", "code": ""},
    ]


def test_failure_has_the_status_and_the_code_of_the_answer(metrics):
    """Skipped steps have no result, so that the failed one stands out."""
    refused = Step("upload", 3, 0.2, "wrong", "507 storage_full", 507, "storage_full")
    metrics.keep_report(report("service", Step("open", 3, 0.1, "good"), refused, Step("close", 3)))
    ((labels, value),) = samples(metrics, "support_probe_step_failure")
    assert (labels, value) == ({"via": "service", "step": "upload", "status": "507", "code": "storage_full"}, 1)
    success = {labels["step"]: value for labels, value in samples(metrics, "support_probe_step_success")}
    assert success == {"open": 1, "upload": 0}


def test_failure_ends_with_a_good_check(metrics):
    """A check that could not run has no steps, and its alert still names one."""
    for failed, name in ((report("ingress", reason="no connection"), "open"), (report("ingress", WRONG), "open")):
        metrics.keep_report(failed)
        assert [labels["step"] for labels, _ in samples(metrics, "support_probe_step_failure")] == [name]
        assert samples(metrics, "support_probe_success") == [({"via": "ingress"}, 0)]
    metrics.keep_report(report("ingress", Step("open", 3, 0.1, "good")))
    assert samples(metrics, "support_probe_step_failure") == []
    assert samples(metrics, "support_probe_success") == [({"via": "ingress"}, 1)]

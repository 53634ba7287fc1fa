"""What follows from a problem of one replica is a symptom of that replica alone."""

from datetime import UTC, datetime

import pytest

from support_service.oncall.judge import REPLICA, Finding, merge_findings
from support_service.oncall.prometheus import PROMETHEUS
from support_service.oncall.rules import read_rules
from support_service.oncall.verdict import reach_verdict
from tests.support.each import each_row

RULES = read_rules()
CAUSE, EFFECT = "SupportEventLoopLag", "SupportReplicaSlow"  # muted for the same replica


def found(name, replicas, *found_by, **labels):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Finding(RULES.alerts[name], labels, at, fires=True, replicas=tuple(replicas.split()), found_by=found_by)


@each_row(
    ("cause", "effect", "problems"),
    [
        (found(CAUSE, "a:9000", PROMETHEUS), found(EFFECT, "a:9000", PROMETHEUS), [CAUSE]),
        (found(CAUSE, "a:9000", PROMETHEUS), found(EFFECT, "b:9000", PROMETHEUS), [CAUSE, EFFECT]),
        (found(CAUSE, "a:9000", REPLICA, PROMETHEUS), found(EFFECT, "b:9000", PROMETHEUS), [CAUSE, EFFECT]),
        (found(CAUSE, "a:9000", REPLICA, PROMETHEUS), found(EFFECT, "a:9000", PROMETHEUS), [CAUSE]),
        (found(CAUSE, "a:9000 b:9000", PROMETHEUS), found(EFFECT, "b:9000", PROMETHEUS), [CAUSE]),
        (found(CAUSE, "a:9000", PROMETHEUS), found(EFFECT, "a:9000 b:9000", PROMETHEUS), [CAUSE, EFFECT]),
        (found(CAUSE, "host-1", REPLICA), found(EFFECT, "a:9000", PROMETHEUS), [CAUSE]),  # may be the same one
    ],
)
def test_effect_is_a_symptom_of_the_same_replica(cause, effect, problems):
    verdict = reach_verdict([cause, effect], RULES, ())
    assert [each.finding.rule.name for each in verdict.problems] == problems


def test_all_replicas_of_an_alert_are_named():
    """Also if this replica has found the problem itself, under another name."""
    findings = [found(CAUSE, "host-1", REPLICA), *(found(CAUSE, f"{each}:9000", PROMETHEUS) for each in "abc")]
    (merged,) = merge_findings(findings)
    assert (merged.replicas, merged.found_by) == (("a:9000", "b:9000", "c:9000"), (REPLICA, PROMETHEUS))


def test_replicas_of_an_effect_may_have_causes_of_their_own():
    """It is a symptom of the cause that has most of them."""
    other = "SupportReplicaDependencyFailing"
    causes = [found(CAUSE, "a:9000", PROMETHEUS), found(other, "b:9000 c:9000", PROMETHEUS)]
    verdict = reach_verdict([*causes, found(EFFECT, "a:9000 b:9000 c:9000", PROMETHEUS)], RULES, ())
    shown = {each.finding.rule.name: [symptom.rule.name for symptom in each.symptoms] for each in verdict.problems}
    assert shown == {CAUSE: [], other: [EFFECT]}


@pytest.mark.parametrize(("failing", "expected"), [("payment", 1), ("order", 2)])
def test_calls_of_one_replica_explain_the_failures_of_the_same_source(failing, expected):
    """Of two replicas, one makes half of all calls."""
    cause = found("SupportReplicaDependencyFailing", "a:9000", PROMETHEUS, dependency="payment")
    effect = found("SupportTimelineSourceDown", "a:9000 b:9000", PROMETHEUS, dependency=failing)
    assert len(reach_verdict([cause, effect], RULES, ()).problems) == expected

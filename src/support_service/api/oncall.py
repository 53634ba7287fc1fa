"""The state of the service for the engineer on call: the verdict, and a card for each part.

The figures come from the metrics in the process; no table is read. Only the database, the cache and Prometheus are
asked whether they answer. Each has a timeout of its own, so that the answer arrives whatever is down.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic.alias_generators import to_camel

from support_service import __version__
from support_service.api.models.oncall import OnCall
from support_service.api.oncall_actions import TAG
from support_service.api.panel_links import LINKS_BY_CARD, panel_path
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import Permission
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.part_state import OK, OncallCard
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.oncall.judge import Failure, Finding, merge_findings
from support_service.oncall.rules import Action
from support_service.oncall.verdict import Problem, Verdict, describe, reach_verdict
from support_service.service import Service

FAILING, STALE, UNAVAILABLE = "failing", "stale", "unavailable"  # states of cards
REDIS_RUNBOOK = "support-redis-failing.md"
FAILURE_RUNBOOKS = {"stream": REDIS_RUNBOOK, "dead_letters": REDIS_RUNBOOK}  # of cards that can't be read
PROBE_CARD = OncallCard(None, {}, "The probe runs in a process of its own; its metrics have its results.")
CACHE_SILENT_MESSAGE = "The Redis of the timeline cache does not answer."

ONCALL_READ = Permission("oncall:read", {"supervisor": "all", "service": "all"})


@get("/support/oncall", tag=TAG, access=ONCALL_READ)
async def get_oncall(call: Call) -> Reply[OnCall]:
    """Get the verdict on the service, and the state of its parts.

    The answer is 200 also while the database, Redis, an upstream service or Prometheus is down: the verdict says so.
    Cards with the scope `replica` are about the replica that answers.
    """
    service = call.service
    database, cache_answers, alerts, _ = await asyncio.gather(
        _read_database_card(service),
        service.dependencies.is_cache_available(),
        _read_alerts(service),
        service.judge.refresh(),
    )
    cards = {
        "sources": service.timeline.card(),
        "cache": service.timeline.cache_card(None if cache_answers else CACHE_SILENT_MESSAGE),
        "database": database,
        "backlog": service.attachments.backlog.card(),
        "outbox": service.relay.card(),
        "stream": service.consumer.stream_card(),
        "dead_letters": service.consumer.dead_letters_card(),
        "webhooks": service.webhooks.card(),
        "probe": PROBE_CARD,
        "audit_sealer": service.sealer.card(),
        "event_loop": service.loop_lag.card(),
    }
    shown = {name: _shown_card(service, name, card) for name, card in cards.items()}
    verdict = OncallVerdict(service, shown, alerts).shown()
    state = {"replica": service.judge.replica, "version": __version__, "at": utc_now(), "verdict": verdict}
    return Reply(OnCall.model_validate(state | shown, by_name=True, from_attributes=True))


async def _read_alerts(service: Service) -> list[Finding] | str:
    """Return the alerts of Prometheus, or why they can't be read."""
    return [] if service.prometheus is None else await service.prometheus.read()


async def _read_database_card(service: Service) -> OncallCard:
    started = time.perf_counter()
    status = await service.dependencies.database_status()
    seconds = round(time.perf_counter() - started, 6) if status == OK else None
    error = None if status == OK else PROBLEM_CODES_BY_NAME[status].meaning
    return OncallCard(utc_now(), {"answer_seconds": seconds}, error, scope="replica")


def _shown_card(service: Service, name: str, card: OncallCard) -> dict[str, Any]:
    """Return a card with its status, and the addresses of its runbook and panel, None where no base URL is set."""
    error = card.error
    if error is None and card.as_of is None:
        error = "It was not read yet."
    is_stale = card.as_of is not None and utc_now() - card.as_of > service.timings.api.stale_after
    status = UNAVAILABLE if error else STALE if is_stale else OK
    link = LINKS_BY_CARD[name]
    return {
        "status": "unknown" if card is PROBE_CARD else status,
        "error": error,
        "scope": card.scope,
        "as_of": card.as_of,
        **_links(service, link.runbook, link.dashboard, link.panel),
        **card.figures,
    }


def _links(service: Service, runbook: str, dashboard: str, panel: str) -> dict[str, str | None]:
    links = service.settings.links
    return {
        "runbook": f"{links.runbooks_url}/{runbook}" if links.runbooks_url else None,
        "panel": f"{links.grafana_url}{panel_path(dashboard, panel)}" if links.grafana_url else None,
    }


class OncallVerdict:
    """The verdict as clients see it, from what this replica and Prometheus found, and from cards that fail."""

    def __init__(self, service: Service, cards: Mapping[str, dict[str, Any]], alerts: list[Finding] | str) -> None:
        self._service = service
        self._cards = cards
        self._alerts = alerts
        self._overrides = {each.name: each for each in _overrides(cards)}

    def shown(self) -> dict[str, Any]:
        judge = self._service.judge
        own, of_prometheus = judge.findings(), self._alerts if isinstance(self._alerts, list) else []
        if isinstance(self._alerts, list) and self._service.prometheus is not None:
            own = [replace(each, fires=False) for each in own]  # Prometheus, which knows all replicas, sends the alerts
        found = merge_findings([*judge.failing_parts(self._failures()), *own, *of_prometheus])
        verdict = reach_verdict(found, judge.rules, self._overrides)
        self._mark_failing(verdict)
        problems = [self._problem(each) for each in verdict.problems]
        unread = [_prometheus_problem(self._alerts)] if isinstance(self._alerts, str) else []
        return {
            "level": "degraded" if unread and verdict.level == "good" else verdict.level,
            "problems": problems + unread,
            "deliberate": [
                {"name": name, "until": self._overrides[name].until, "symptoms": [*map(_description, symptoms)]}
                for name, symptoms in verdict.deliberate.items()
            ],
        }

    def _mark_failing(self, verdict: Verdict) -> None:
        """Let the cards agree with the verdict."""
        findings = [each for problem in verdict.problems for each in (problem.finding, *problem.symptoms)]
        failing = {finding.rule.part for finding in findings}
        for name, card in self._cards.items():
            if card["status"] == OK and to_camel(name) in failing:
                card["status"] = FAILING

    def _failures(self) -> Iterator[Failure]:
        """Yield the alert, its labels and the error of each part that fails now. Its alert may not have noticed yet."""
        by_runbook = {rule.runbook: rule for rule in self._service.judge.rules.alerts.values()}
        database_fails = self._cards["database"]["status"] == UNAVAILABLE
        for name, card in self._cards.items():
            rule = by_runbook[FAILURE_RUNBOOKS.get(name, LINKS_BY_CARD[name].runbook)]
            if name == "sources":
                rejected = [each for each in card["items"] if each["breaker"] not in (None, "closed")]
                yield from (Failure(rule, {"dependency": each["service"]}) for each in rejected)
            elif card["status"] == UNAVAILABLE and card["as_of"] is not None:
                yield Failure(rule, {}, card["error"])
            elif card["status"] == STALE and not database_fails:
                yield Failure(rule, {}, f"The figures of this part are old: those of {card['as_of']:%H:%M:%S} UTC.")

    def _problem(self, problem: Problem) -> dict[str, Any]:
        finding, rule = problem.finding, problem.finding.rule
        sources = self._failing_sources() if rule.part == "sources" else {}
        named = finding.labels.get("dependency", "")
        concerned = [named] if named in UPSTREAM_SERVICES else [*sources]
        return {
            "part": rule.part,
            "source": concerned[0] if len(concerned) == 1 else None,
            "severity": rule.severity,
            **_description(finding),
            "labels": finding.labels,
            "detail": "; ".join(text for name, text in sources.items() if name in concerned) or None,
            "figure": _finite(finding.value),
            "limit": _finite(finding.limit),
            "unit": rule.unit,
            "since": finding.since,
            "scope": "replica" if problem.replicas else "service",
            "replicas": list(problem.replicas) or None,
            "found_by": finding.found_by,
            "action": _action(self._service.settings.links.runbooks_url, rule.action_for(finding.labels)),
            "symptoms": [*map(_description, problem.symptoms)],
            **_links(self._service, rule.runbook, rule.dashboard, rule.panel),
        }

    def _failing_sources(self) -> dict[str, str]:
        """Return what fails of each source of which calls fail, as this replica sees it."""
        return {
            each["service"]: f"{each['service']}: {each['error_share']:.0%} of {each['calls']} calls fail"
            for each in self._cards["sources"]["items"]
            if each["error_share"] and not each["override"]
        }


def _overrides(cards: Mapping[str, dict[str, Any]]) -> list[Any]:
    found = [*(each["override"] for each in cards["sources"]["items"]), cards["cache"]["override"]]
    return [each for each in found if each is not None]


def _description(finding: Finding) -> dict[str, Any]:
    en, vi = finding.rule.title
    state = "firing" if finding.fires else "pending"
    return {"alert": finding.rule.name, "text": describe(finding), "summary": {"en": en, "vi": vi}, "state": state}


def _action(runbooks: str | None, action: Action | None) -> dict[str, dict[str, str | None]] | None:
    if action is None:
        return None
    folders = {"en": runbooks, "vi": f"{runbooks}/vi"}
    return {
        language: {"text": text, "url": f"{folders[language]}/{address}" if runbooks else None}
        for language, (text, address) in action.items()
    }


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _prometheus_problem(why: str) -> dict[str, Any]:
    return {
        "part": "prometheus",
        "source": None,
        "alert": None,
        "severity": "warning",
        "state": "pending",
        "text": f"Prometheus can't be read, so this verdict is that of one replica: {why}",
        "summary": {"en": "Prometheus can't be read", "vi": "không đọc được Prometheus"},
        "labels": {},
        "detail": why,
        "figure": None,
        "limit": None,
        "unit": None,
        "since": utc_now(),
        "scope": "service",
        "replicas": None,
        "found_by": ["replica"],
        "action": None,
        "symptoms": [],
        "runbook": None,
        "panel": None,
    }

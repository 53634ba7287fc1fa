"""Models of the state that the engineer on call sees: one card for each part of the service."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from support_service.api.models.oncall_actions import ShownOverride
from support_service.cases.model.case import ApiModel, example_config
from support_service.core.domain.upstream_services import UpstreamService
from support_service.timeline.source_health import BreakerState

EXAMPLE_LINKS = {
    "runbook": "https://ops.example/runbooks/support-timeline-source-down.md",
    "panel": "https://grafana.example/d/support-overview?viewPanel=913786505",
}


def _card_example(scope: str, **members: Any) -> dict[str, Any]:
    return {"status": "ok", "error": None, "scope": scope, "asOf": "2026-05-12T12:00:00Z", **EXAMPLE_LINKS, **members}


class Card(ApiModel):
    """What every card has."""

    status: Literal["ok", "failing", "stale", "unavailable", "unknown"] = Field(
        description="`failing`: the verdict has a problem of this part. `stale`: the figures are older than 30 s. "
        "`unavailable`: the part does not answer, or fails. `unknown`: this process does not know it"
    )
    error: str | None
    scope: Literal["service", "replica"] = Field(
        description="`replica`: figures of the replica that answers alone; `service`: of all replicas"
    )
    as_of: datetime | None = Field(description="when the figures were read")
    runbook: str | None = Field(description="address of the runbook, if `SUPPORT_RUNBOOKS_URL` is set")
    panel: str | None = Field(description="address of the Grafana panel, if `SUPPORT_GRAFANA_URL` is set")


class SourceCard(ApiModel):
    """An upstream service, as this replica sees it."""

    model_config = example_config(
        {
            "service": "payment",
            "configured": True,
            "breaker": "open",
            "calls": 118,
            "errorShare": 0.64,
            "p95Seconds": 2.5,
            "lastAnswerAt": "2026-05-12T11:58:02.500000Z",
            "override": None,
        }
    )

    service: UpstreamService
    configured: bool
    breaker: BreakerState | None = Field(description="state of the circuit breaker; null if it is not configured")
    calls: int = Field(description="calls in the last five minutes, at most the last 1,000")
    error_share: float | None = Field(
        description="share of these calls without a usable answer, including calls that the circuit breaker rejected"
    )
    p95_seconds: float | None
    last_answer_at: datetime | None = Field(description="time of the last usable answer")
    override: ShownOverride | None = Field(description="the override that switches it off, on all replicas")


class SourcesCard(Card):
    """The upstream services."""

    model_config = example_config(
        _card_example("replica", items=SourceCard.model_config["json_schema_extra"]["examples"])  # type: ignore[index]
    )

    items: list[SourceCard]


class CacheCard(Card):
    """The timeline cache: how long answers are fresh, and whether it answers."""

    model_config = example_config(_card_example("service", ttlSeconds=300, defaultTtlSeconds=300, override=None))

    ttl_seconds: float = Field(description="seconds for which answers are fresh now")
    default_ttl_seconds: float = Field(description="the same without an override")
    override: ShownOverride | None


class DatabaseCard(Card):
    """The database. While it is unavailable, overrides stay in effect until they expire and can't be changed."""

    model_config = example_config(_card_example("replica", answerSeconds=0.002))

    answer_seconds: float | None = Field(description="time of a query without data; null without an answer")


class BacklogCard(Card):
    """Files on local storage, which wait for the move to S3 if there is one."""

    model_config = example_config(
        _card_example(
            "service", files=120, bytes=73400320, oldestAgeSeconds=910.5, diskFreeBytes=21474836480, fullInSeconds=None
        )
    )

    files: int | None
    bytes: int | None
    oldest_age_seconds: float | None
    disk_free_bytes: int | None = Field(description="free bytes on this replica's disk")
    full_in_seconds: float | None = Field(
        description="seconds until the backlog fills this replica's disk, at its growth of the last hour. Null if more "
        "than 20 % are free, if it does not grow, or before an hour has passed"
    )


class OutboxCard(Card):
    """Events that wait for publication."""

    model_config = example_config(_card_example("service", events=0, oldestAgeSeconds=0.0, leader=True))

    events: int | None
    oldest_age_seconds: float | None
    leader: bool = Field(description="true if this replica publishes the events")


class StreamCard(Card):
    """The stream of inbound events."""

    model_config = example_config(_card_example("service", waiting=3))

    waiting: int | None = Field(description="events that are not applied yet")


class DeadLettersCard(Card):
    """Inbound events that were given up."""

    model_config = example_config(_card_example("service", count=0))

    count: int | None


class WebhooksCard(Card):
    """Webhook deliveries."""

    model_config = example_config(_card_example("service", pending=0, endpoints=["warehouse"]))

    pending: int | None = Field(description="deliveries that are tried again")
    endpoints: list[str]


class ProbeCard(Card):
    """The synthetic check. It runs in a process of its own: only its metrics have its results."""

    model_config = example_config(_card_example("service", status="unknown", asOf=None))


class SealerCard(Card):
    """The sealing of the audit log."""

    model_config = example_config(
        _card_example("service", entries=1834, lastSealedAt="2026-05-12T11:59:58Z", unsealedAgeSeconds=0.0)
    )

    entries: int | None = Field(description="length of the chain")
    last_sealed_at: datetime | None = Field(description="when this replica last saw the chain grow")
    unsealed_age_seconds: float | None = Field(description="age of the oldest entry that is not sealed; 0 without one")


class EventLoopCard(Card):
    """The lag of the event loop in the last minute."""

    model_config = example_config(_card_example("replica", lagSeconds=0.001, p95Seconds=0.004, maxSeconds=0.021))

    lag_seconds: float | None = Field(description="the last sample")
    p95_seconds: float | None
    max_seconds: float | None


class Summary(ApiModel):
    """What is wrong, in the languages of the console."""

    en: str
    vi: str


class ActionLink(ApiModel):
    """An action of a runbook."""

    text: str
    url: str | None = Field(description="address of its heading, if `SUPPORT_RUNBOOKS_URL` is set")


class Action(ApiModel):
    """The action that a runbook names first, in the languages of the console."""

    model_config = example_config(
        {
            "en": {
                "text": "Switch off the upstream service",
                "url": f"{EXAMPLE_LINKS['runbook']}#switch-off-the-upstream-service",
            },
            "vi": {"text": "Tắt upstream service", "url": None},
        }
    )

    en: ActionLink
    vi: ActionLink


class Symptom(ApiModel):
    """What follows from a problem, or from an override: no one needs to act on it."""

    alert: str = Field(description="name of the alert")
    text: str
    summary: Summary
    state: Literal["pending", "firing"]


class ServiceProblem(ApiModel):
    """What is wrong with a part: the condition of an alert holds, or the part does not answer."""

    model_config = example_config(
        {
            "part": "sources",
            "source": "payment",
            "alert": "SupportTimelineSourceDown",
            "severity": "warning",
            "state": "firing",
            "text": "order, payment or fulfillment fails (payment): 64 % (limit 50 %)",
            "summary": {"en": "order, payment or fulfillment fails", "vi": "order, payment hoặc fulfillment lỗi"},
            "labels": {"dependency": "payment"},
            "detail": "payment: 64 % of 118 calls fail",
            "figure": 0.64,
            "limit": 0.5,
            "unit": "share",
            "since": "2026-05-12T11:58:02.500000Z",
            "scope": "replica",
            "replicas": ["support-1-7"],
            "foundBy": ["replica"],
            "action": Action.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
            "symptoms": [],
            **EXAMPLE_LINKS,
        }
    )

    part: str = Field(description="name of a card, or of a part without one, such as `requests`, `storage` or `access`")
    source: UpstreamService | None
    alert: str | None = Field(description="name of the alert; null for the problem that Prometheus can't be read")
    severity: Literal["critical", "warning"]
    state: Literal["pending", "firing"] = Field(
        description="`firing`: the condition holds for as long as the alert waits; with `SUPPORT_PROMETHEUS_URL`, only "
        "if Prometheus says so, as long as it can be read"
    )
    text: str = Field(description="what is wrong, in English")
    summary: Summary = Field(description="the same without figures")
    labels: dict[str, str] = Field(description="what the alert says more, such as the route or the stage")
    detail: str | None = Field(description="figures or an error of this replica, in English")
    figure: float | None
    limit: float | None = Field(description="the threshold of the figure")
    unit: Literal["share", "seconds", "bytes", "number"] | None
    since: datetime = Field(description="since when the condition holds")
    scope: Literal["service", "replica"] = Field(description="`replica`: it concerns the replicas that are named")
    replicas: list[str] | None = Field(
        description="the replicas that it concerns, by host and process id, or by the address that Prometheus scrapes; "
        "null for all. Without `SUPPORT_PROMETHEUS_URL` a replica knows of itself alone"
    )
    found_by: list[Literal["replica", "prometheus"]]
    action: Action | None = Field(description="what is likely to help")
    symptoms: list[Symptom] = Field(description="what follows from it")
    runbook: str | None
    panel: str | None


class Deliberate(ApiModel):
    """An override in effect, and what follows from it."""

    model_config = example_config({"name": "payment", "until": "2026-05-12T12:30:00Z", "symptoms": []})

    name: str
    until: datetime
    symptoms: list[Symptom]


class Verdict(ApiModel):
    """What is wrong with the service, by the conditions of the alerts, and by parts that do not answer."""

    model_config = example_config(
        {"level": "bad", "problems": ServiceProblem.model_config["json_schema_extra"]["examples"], "deliberate": []}  # type: ignore[index]
    )

    level: Literal["good", "degraded", "bad"] = Field(
        description="`bad`: an alert fires; `degraded`: a problem is pending, Prometheus can't be read, or an "
        "override is in effect"
    )
    problems: list[ServiceProblem] = Field(description="worst first")
    deliberate: list[Deliberate]


class OnCall(ApiModel):
    """The state of the service's parts."""

    model_config = example_config(
        {
            "replica": "support-1-7",
            "version": "0.2.0",
            "at": "2026-05-12T12:00:00Z",
            "verdict": Verdict.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
        }
        | {
            name: card.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index]
            for name, card in (
                ("sources", SourcesCard),
                ("cache", CacheCard),
                ("database", DatabaseCard),
                ("backlog", BacklogCard),
                ("outbox", OutboxCard),
                ("stream", StreamCard),
                ("deadLetters", DeadLettersCard),
                ("webhooks", WebhooksCard),
                ("probe", ProbeCard),
                ("auditSealer", SealerCard),
                ("eventLoop", EventLoopCard),
            )
        }
    )

    replica: str = Field(description="host and process id of the replica that answers")
    version: str
    at: datetime
    verdict: Verdict
    sources: SourcesCard
    cache: CacheCard
    database: DatabaseCard
    backlog: BacklogCard
    outbox: OutboxCard
    stream: StreamCard
    dead_letters: DeadLettersCard
    webhooks: WebhooksCard
    probe: ProbeCard
    audit_sealer: SealerCard
    event_loop: EventLoopCard

"""SupportApiErrorBudgetBurnFast and SupportApiErrorBudgetBurnSlow: requests fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from grafana.panel import Panel, Query, rate, ratio

from observability.drill import Cause, Deployment, DrillFault, repeatedly
from observability.error_budget import BUDGET_PERIOD, BURN_FAST, BURN_RATE_DESCRIPTION, Objective
from observability.faults import CounterValues, Fault
from observability.signal import SERVICE_JOB, SYMPTOM_FOR, Signal, value_template

OBJECTIVE_API = 0.999  # share of requests that are not answered by 5xx, over 30 days
OF_MACHINES = "/metrics|/livez|/readyz|/health"  # requested by machines, not by agents
SHOWN_ROUTES = f'http_route!~"{OF_MACHINES}"'
# By convention all services share the name of the series. Without `job`, failures of others would count here.
ROUTED = f"{SERVICE_JOB},{SHOWN_ROUTES}"
FAILED_REQUESTS = (
    f'rate(http_server_request_duration_seconds_count{{{ROUTED},http_response_status_code=~"5.."}}[WINDOW])'
)
SHOWN_FAILURES = f'{SHOWN_ROUTES},http_response_status_code=~"5.."'
REQUESTS = "http_server_request_duration_seconds"
# What SupportUploadsRefused, SupportDownloadsRefused and SupportAttachmentIntegrity count: each is a 5xx.
FILES_FAILING = " + ".join(
    f"(sum(rate({counter}[WINDOW])) or vector(0))"
    for counter in ('support_attachment_transfers_total{outcome!="ok"}', "support_attachment_unreadable_total")
)
OBJECTIVE = Objective(
    key="api_requests",
    alert="SupportApiErrorBudget",
    share=OBJECTIVE_API,
    title="API availability",
    short=("API", "API"),
    what="API requests returned 5xx",
    bad=f"sum({FAILED_REQUESTS})",
    total=f"sum(rate(http_server_request_duration_seconds_count{{{ROUTED}}}[WINDOW]))",
    most=f"{{{{ range query `topk(1, sum by (http_route, http_response_status_code) ({FAILED_REQUESTS}))` }}}}, mostly "
    "{{ .Labels.http_route }} with {{ .Labels.http_response_status_code }}{{ end }}",
    explained={"attachments": FILES_FAILING},
)
FAILED_SHARE = f"(({OBJECTIVE.bad}) or vector(0)) / ({OBJECTIVE.total} > 0)".replace("WINDOW", SYMPTOM_FOR)
# Of a summary: how far the impact goes. One replica, or one way to the service, is no outage of all.
FAILED = value_template(FAILED_SHARE, "humanizePercentage", "none")
REQUESTS_FAILING = f"{FAILED} of the requests that reach a replica get a 5xx"


def _requests(status: str, job: str = "support-service") -> str:
    labels = f'job="{job}",http_route="/support/cases",http_response_status_code="{status}"'
    return f"http_server_request_duration_seconds_count{{{labels}}}"


@asynccontextmanager
async def _views_are_not_saved(deployment: Deployment) -> AsyncIterator[None]:
    """A defect: each attempt to save a view is answered with 500."""
    view = {"name": "Mine", "query": {"status": ["open"]}}
    async with deployment.traffic.session() as session:

        async def save() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post("/support/views", json=view):
                    pass

        broken = deployment.database.trigger("BEFORE INSERT ON views", "RAISE EXCEPTION 'unknown column'")
        async with broken, repeatedly(save, 0.5):
            yield


@asynccontextmanager
async def _a_case_is_poisoned(deployment: Deployment) -> AsyncIterator[None]:
    """Somebody has written tags by hand that are no list: the queue of a team, which has the case, can't be read."""
    async with deployment.traffic.session() as session:
        case = {"subject": "A return", "channel": "email", "team": "returns"}
        async with session.post("/support/cases", json=case) as response:
            number = f"id = '{(await response.json())['id']}'"

        async def read_queue() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/support/cases", params={"team": "returns"}):
                    pass

        for tags in ('{"vip": 1}', "[]"):
            write = f"UPDATE tickets SET tags = '{tags}' WHERE {number}"
            await deployment.database.run(
                f"ALTER TABLE tickets DISABLE TRIGGER USER; {write}; ALTER TABLE tickets ENABLE TRIGGER USER"
            )
            if tags != "[]":
                async with repeatedly(read_queue, 0.5):
                    yield


SIGNAL = Signal(
    group="objectives",
    alerts=OBJECTIVE.alerts(),
    records=OBJECTIVE.records(),
    panels=(
        Panel(
            "Support API error budget",
            f"Burn rate of the error budget of {OBJECTIVE_API:.1%} over each window. {BURN_RATE_DESCRIPTION}",
            row="objectives",
            place=40,
            queries=OBJECTIVE.burn_rates(),
            unit="suffix: x",
            limit=BURN_FAST,
            width=6,
        ),
        Panel(
            "Support API error budget left",
            f"Remaining part of the 5xx responses that {OBJECTIVE_API:.1%} allows in 30 days. Below 0: missed.",
            row="objectives",
            place=20,
            queries=OBJECTIVE.budget_left(
                rate(f"{REQUESTS}_count", where=SHOWN_FAILURES, window=BUDGET_PERIOD),
                rate(f"{REQUESTS}_count", where=SHOWN_ROUTES, window=BUDGET_PERIOD),
            ),
            unit="percentunit",
            limit=0,
            low=True,
            alerts=("SupportApiErrorBudgetBurnSlow",),
            kind="number",
            width=3,
        ),
        Panel(
            "Support API errors",
            "Share of responses with status 5xx and 4xx. The line is the share at which the month's budget burns "
            f"{BURN_FAST:g} times too fast. 4xx are client errors.",
            row="api",
            place=20,
            queries=(
                Query(
                    ratio(
                        rate(f"{REQUESTS}_count", where=SHOWN_FAILURES), rate(f"{REQUESTS}_count", where=SHOWN_ROUTES)
                    ),
                    "5xx",
                ),
                Query(
                    ratio(
                        rate(f"{REQUESTS}_count", where=f'{SHOWN_ROUTES},http_response_status_code=~"4.."'),
                        rate(f"{REQUESTS}_count", where=SHOWN_ROUTES),
                    ),
                    "4xx",
                ),
            ),
            unit="percentunit",
            limit=round(BURN_FAST * (1 - OBJECTIVE_API), 6),
            alerts=("SupportApiErrorBudgetBurnFast",),
        ),
    ),
    faults={
        "3 % of requests fail": Fault(
            ("SupportApiErrorBudgetBurnFast", "SupportApiErrorBudgetBurnSlow"),
            {_requests("200"): CounterValues(20, 19.4), _requests("500"): CounterValues(0, 0.6)},
            still_firing=("SupportApiErrorBudgetBurnSlow",),
        ),
        "0.8 % of requests fail": Fault(
            ("SupportApiErrorBudgetBurnSlow",),
            {_requests("200"): CounterValues(595, 595), _requests("500"): CounterValues(5, 5)},
            still_firing=("SupportApiErrorBudgetBurnSlow",),
        ),
        "another service's requests fail": Fault(
            (),
            {
                _requests("200"): CounterValues(600, 600),
                _requests("200", "order-service"): CounterValues(600, 300),
                _requests("500", "order-service"): CounterValues(0, 300),
            },
        ),
    },
    drills=(
        DrillFault(
            "views can't be saved",
            ("SupportApiErrorBudgetBurnFast",),
            _views_are_not_saved,
            (Cause(1, '"500".*"/support/views"'),),
            only_repair="no release is to blame that could be rolled back",
        ),
        DrillFault(
            "one case breaks the lists that have it",
            ("SupportApiErrorBudgetBurnFast",),
            _a_case_is_poisoned,
            (Cause(1, '"500".*"/support/cases"'), Cause(3, "The case with the number [0-9]+ can't be listed")),
            only_repair="the row has to be corrected",
        ),
    ),
)

"""SupportClientErrorsHigh: many requests of a route are client errors."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, repeatedly
from observability.faults import CounterValues, Fault
from observability.signal import SYMPTOM_FOR, SYMPTOM_WINDOW, Alert, Signal
from observability.signals.api_error_budget import REQUESTS, ROUTED, SHOWN_ROUTES

CLIENT_ERROR_SHARE = 0.2  # share of a route's requests; agents who mistype or edit at once stay below a twentieth
CLIENT_ERRORS = 20  # such answers per window
CLIENT_ERROR = 'http_response_status_code=~"4..",http_response_status_code!~"401|404|429"'
TOP_STATUS = (
    "{{ range query (printf `topk(1, sum by (http_response_status_code) "
    f"(rate(http_server_request_duration_seconds_count{{{ROUTED},http_route=%q,{CLIENT_ERROR}}}[{SYMPTOM_FOR}])))`"
    " $labels.http_route) }}, mostly {{ .Labels.http_response_status_code }}{{ end }}"
)


def _by_route(where: str = "") -> str:
    series = f'http_server_request_duration_seconds_count{{{ROUTED},http_route!="other"{where}}}'
    return f"sum by (http_route) (increase({series}[{SYMPTOM_WINDOW}]))"


ROUTE = "/support/cases"


def _answers(status: str, route: str = ROUTE) -> str:
    labels = f'job="support-service",http_route="{route}",http_response_status_code="{status}"'
    return f"http_server_request_duration_seconds_count{{{labels}}}"


@asynccontextmanager
async def _a_client_sends_invalid_cases(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.traffic.session() as session:

        async def send() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post("/support/cases", json={"channel": "pigeon"}):
                    pass

        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(repeatedly(send, 0.15))
            yield


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportClientErrorsHigh",
            short=("many requests of a route are client errors", "nhiều request của một route là lỗi phía client"),
            expr=f"{_by_route(f',{CLIENT_ERROR}')} / {_by_route()} > {CLIENT_ERROR_SHARE}"
            f" and {_by_route(f',{CLIENT_ERROR}')} >= {CLIENT_ERRORS}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="{{ $value | humanizePercentage }} of requests to {{ $labels.http_route }} are client errors"
            + TOP_STATUS,
            description="{{ $value | humanizePercentage }} of the answers of {{ $labels.http_route }} are 4xx except "
            f"401, 404 and 429 (limit {CLIENT_ERROR_SHARE:.0%} and {CLIENT_ERRORS} requests in {SYMPTOM_WINDOW}). A "
            "client or a release has broken the contract.",
            stated=(f"{CLIENT_ERROR_SHARE * 100:g} %", f" {CLIENT_ERRORS},", SYMPTOM_WINDOW, SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support client errors by route",
            "Share of each route's answers that are 4xx except 401, 404 and 429. Normal: under 5 %.",
            row="api",
            place=70,
            queries=(
                Query(
                    f"{rate(f'{REQUESTS}_count', 'http_route', f'{SHOWN_ROUTES},{CLIENT_ERROR}')} / "
                    f"({rate(f'{REQUESTS}_count', 'http_route', SHOWN_ROUTES)} > 0)",
                    "{{http_route}}",
                ),
            ),
            unit="percentunit",
            limit=CLIENT_ERROR_SHARE,
            width=12,
            top=1,
        ),
    ),
    faults={
        "most answers are 422": Fault(
            (f'SupportClientErrorsHigh{{http_route="{ROUTE}"}}',),
            {
                _answers("201"): CounterValues(100, 41),
                _answers("422"): CounterValues(2, 59),
                _answers("200", "/support/macros"): CounterValues(99, 99),
            },
        ),
        "a third of the answers are 422": Fault(
            (f'SupportClientErrorsHigh{{http_route="{ROUTE}"}}',),
            {_answers("201"): CounterValues(60, 40), _answers("422"): CounterValues(0, 20)},
        ),
        "an eighth of the answers are 422": Fault(
            (), {_answers("201"): CounterValues(100, 88), _answers("422"): CounterValues(0, 12)}
        ),
        "most of few answers are 422": Fault(
            (), {_answers("201"): CounterValues(10, 2), _answers("422"): CounterValues(0, 8)}
        ),
        "most answers are 404, 401 and 429": Fault(
            (),
            {
                _answers("200"): CounterValues(100, 30),
                **{_answers(code): CounterValues(0, 30) for code in ("404", "401", "429")},
            },
        ),
    },
    drills=(
        DrillFault(
            "59 % of answers are 422",
            ("SupportClientErrorsHigh",),
            _a_client_sends_invalid_cases,
            (Cause(1, '"422".* [1-9]'),),
            only_repair="the client has to be rolled back",
        ),
    ),
)

"""SupportWritesForbidden: many callers may not change anything any more."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas, rate

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, WINDOW, Alert, Signal, highest_label_template, value_template
from observability.signals.access_refused import CALLERS_SHARE, MANY_CALLERS, MOST_CALLERS, callers, few
from observability.signals.api_error_budget import REQUESTS, ROUTED, SHOWN_ROUTES

FORBIDDEN_SHARE = 0.25  # share of changes; people who try what they may not do stay below a hundredth
FORBIDDEN = 20  # such changes per window; a few of one caller are not an outage
FORBIDDEN_FOR = "3m"  # longer than a rollout of changed rights takes
CHANGES = 'http_request_method!~"GET|HEAD|OPTIONS",http_route!="other"'
REFUSED = 'http_response_status_code="403"'


def _changes(where: str = "") -> str:
    return f"sum(increase({REQUESTS}_count{{{ROUTED},{CHANGES}{where}}}[{WINDOW}]))"


def _answers(status: str, method: str = "POST") -> str:
    labels = f'http_request_method="{method}",http_route="/support/cases",http_response_status_code="{status}"'
    return f'{REQUESTS}_count{{job="support-service",{labels}}}'


def _callers(outcome: str) -> str:
    return f'support_access_callers{{instance="a",outcome="{outcome}"}}'


TOP_ROUTE = highest_label_template(
    "http_route", f"sum by (http_route) (rate({REQUESTS}_count{{{ROUTED},{CHANGES},{REFUSED}}}[{SYMPTOM_FOR}]))"
)


@asynccontextmanager
async def _roles_are_lost(deployment: Deployment) -> AsyncIterator[None]:
    """The role of the agents' client becomes one that only reads, as after a wrong mapping of groups."""
    usual = deployment.tokens.read_bytes()
    tokens = json.loads(usual)
    for entry in tokens["tokens"]:
        if entry["name"] == "agents":
            entry["role"] = "analyst"
    deployment.tokens.write_text(json.dumps(tokens))
    async with changed_attributes(deployment.traffic, unread_cases=20.0):
        yield
    deployment.tokens.write_bytes(usual)


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportWritesForbidden",
            short=("many callers may not change anything", "nhiều bên gọi không được phép thay đổi gì"),
            expr=f"({_changes(f',{REFUSED}')} / {_changes()} > {FORBIDDEN_SHARE}"
            f" and {_changes(f',{REFUSED}')} >= {FORBIDDEN})"
            f" unless on () {few(callers('forbidden'), callers('writing'))}",
            for_=FORBIDDEN_FOR,
            severity="critical",
            summary=f"{{{{ $value | humanizePercentage }}}} of changes are refused with 403, of "
            f"{value_template(callers('forbidden'))} of {value_template(callers('writing'))} callers, mostly "
            f"{TOP_ROUTE}",
            description=f"{{{{ $value | humanizePercentage }}}} of the requests of {WINDOW} that change something were "
            f"answered with 403 (limit {FORBIDDEN_SHARE:.0%} and {FORBIDDEN} requests). They come from over "
            f"{CALLERS_SHARE:.0%} of the callers that write. The refused changes have no effect. Reads work.",
            keep_firing_for=CAUSE_KEPT,
            stated=(
                f"{FORBIDDEN_SHARE * 100:g} %",
                f"{FORBIDDEN} request",
                f"{MANY_CALLERS} ",
                f"{MOST_CALLERS * 100:g} %",
                WINDOW,
                FORBIDDEN_FOR,
            ),
        ),
    ),
    panels=(
        Panel(
            "Support changes refused",
            "Share of the requests that change something which are answered with 403. On the right: callers that are. "
            "Normal: under 1 %.",
            row="access",
            place=14,
            queries=(
                Query(
                    f"{rate(f'{REQUESTS}_count', where=f'{SHOWN_ROUTES},{CHANGES},{REFUSED}')} / "
                    f"({rate(f'{REQUESTS}_count', where=f'{SHOWN_ROUTES},{CHANGES}')} > 0)",
                    "403",
                ),
                Query(
                    highest_over_replicas("support_access_callers", where='outcome="forbidden"'),
                    "callers",
                    right="short",
                ),
            ),
            unit="percentunit",
            limit=FORBIDDEN_SHARE,
            top=1,
        ),
    ),
    faults={
        "95 % of changes are forbidden": Fault(
            ('SupportClientErrorsHigh{http_route="/support/cases"}', "SupportWritesForbidden"),
            {
                _answers("201"): CounterValues(100, 5),
                _answers("403"): CounterValues(0, 95),
                _callers("writing"): GaugeValues(10, 10),
                _callers("forbidden"): GaugeValues(0, 4),
            },
        ),
        "two of three clients may change nothing": Fault(
            ('SupportClientErrorsHigh{http_route="/support/cases"}', "SupportWritesForbidden"),
            {
                _answers("201"): CounterValues(20, 15),
                _answers("403"): CounterValues(0, 10),
                _callers("writing"): GaugeValues(3, 3),
                _callers("forbidden"): GaugeValues(0, 2),
            },
        ),
        "one client of many may not change anything, and repeats it": Fault(
            ('SupportClientErrorsHigh{http_route="/support/cases"}',),
            {
                _answers("201"): CounterValues(100, 100),
                _answers("403"): CounterValues(0, 95),
                _callers("writing"): GaugeValues(40, 40),
                _callers("forbidden"): GaugeValues(0, 1),
            },
        ),
        "reads are forbidden": Fault(
            ('SupportClientErrorsHigh{http_route="/support/cases"}',),
            {
                _answers("201"): CounterValues(100, 100),
                _answers("403", "GET"): CounterValues(0, 95),
                _callers("writing"): GaugeValues(40, 40),
                _callers("forbidden"): GaugeValues(0, 0),
            },
        ),
    },
    drills=(
        DrillFault(
            "roles lost",
            ("SupportWritesForbidden",),
            _roles_are_lost,
            (Cause(1, "Changes of agents from .* are refused: permission_missing"),),
            only_repair="the callers have to get their role back",
        ),
    ),
)

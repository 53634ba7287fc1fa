"""SupportApiLatencyHigh: requests of a route are slow."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from grafana.panel import Panel, Query, quantile

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, changed_attributes, restarted_with
from observability.faults import CounterValues, Fault, SeriesValues
from observability.signal import SYMPTOM_FOR, SYMPTOM_WINDOW, Alert, Record, Signal
from observability.signals.api_error_budget import REQUESTS, ROUTED, SHOWN_ROUTES

API_LATENCY_P95 = 1.0  # s; how long agents wait for a change, a bucket boundary, and ten times a busy route
API_LATENCY_P95_TIMELINE = 5.0  # s; a timeline waits for its sources up to 3 s
API_LATENCY_P95_LARGE = 7.5  # s; for what reads or changes hundreds of cases in one request
API_LATENCY_SURGE = 5  # multiple of the median of the day before, so that a route that is always slow does not fire
API_LATENCY_BEFORE = "1d"  # length of the day before, and its distance
API_LATENCY_REQUESTS = 20  # requests per window; with fewer, one slow request would be the 95th percentile
# The time of uploads, downloads and streams is that of their clients. `other` are requests without a route.
UNTIMED_ROUTES = ".+/attachments.*|/support/stream|other"
TIMELINE_ROUTES = "/support/cases/.case_id.|.+/timeline/refresh"  # a dot stands for a brace
LARGE_ROUTES = "/support/cases/bulk.*|/support/reports.*|/support/audit.*"
BY_ROUTE = "http_request_method, http_route"
ROUTE_P95, ROUTE_SURGE = f"route:{REQUESTS}:p95", f"route:{REQUESTS}:surge"
TIMED = f'{ROUTED},http_route!~"{UNTIMED_ROUTES}"'
BOUNDS: Mapping[str, float] = {
    f'{{http_route!~"{TIMELINE_ROUTES}|{LARGE_ROUTES}"}}': API_LATENCY_P95,
    f'{{http_route=~"{TIMELINE_ROUTES}"}}': API_LATENCY_P95_TIMELINE,
    f'{{http_route=~"{LARGE_ROUTES}"}}': API_LATENCY_P95_LARGE,
}
OVER_BOUND = " or ".join(f"{ROUTE_P95}{where} > {bound:g}" for where, bound in BOUNDS.items())
SURGE_OF_ROUTE = (
    f"{{{{ range query (printf `{ROUTE_SURGE}{{http_request_method=%q,http_route=%q}}` $labels.http_request_method "
    '$labels.http_route) }}, {{ printf "%.0f" .Value }} times as long as the day before{{ end }}'
)


def latency_p95(by: str, where: str) -> str:
    """Return the 95th percentile of the time of requests by labels, where they are enough for one."""
    in_buckets = f"sum by ({by}, le) (rate({REQUESTS}_bucket{{{where}}}[{SYMPTOM_WINDOW}]))"
    counted = f"sum by ({by}) (increase({REQUESTS}_count{{{where}}}[{SYMPTOM_WINDOW}]))"
    return f"histogram_quantile(0.95, {in_buckets}) and {counted} >= {API_LATENCY_REQUESTS}"


Edges = tuple[str, str, str]  # s, of buckets: the most of fast requests, the least and the most of slow ones
USUAL_EDGES: Edges = ("0.025", "1.0", "2.0")  # s


def request_times(
    fast: CounterValues, slow: CounterValues, labels: str, edges: Edges = USUAL_EDGES
) -> dict[str, SeriesValues]:
    """Return series of requests that take up to the first edge, and of requests between the others, in seconds."""
    most, least, longest = edges
    both = CounterValues(fast.usual + slow.usual, fast.broken + slow.broken)
    series: dict[str, SeriesValues] = {
        f'{REQUESTS}_bucket{{job="support-service",{labels},le="{edge}"}}': fast for edge in (most, least)
    }
    series |= {f'{REQUESTS}_bucket{{job="support-service",{labels},le="{edge}"}}': both for edge in (longest, "+Inf")}
    return series | {f'{REQUESTS}_count{{job="support-service",{labels}}}': both}


OPENING = 'instance="a",http_request_method="POST",http_route="/support/cases",http_response_status_code="201"'
UPLOADS = OPENING.replace("/support/cases", "/support/cases/{case_id}/attachments")
TIMELINES = OPENING.replace("/support/cases", "/support/cases/{case_id}").replace("POST", "GET")
REPORTS = OPENING.replace("/support/cases", "/support/reports").replace("POST", "GET")
FAST, SLOW, NONE = CounterValues(60, 0), CounterValues(0, 60), CounterValues(0, 0)
MANY = 12.0  # requests per second: the alert counts requests in a window that is divided, by a limit that is not
OPENING_SECONDS = "DRILL_OPENING_SECONDS"  # of the drill's service: how long it waits before it opens a case


@asynccontextmanager
async def _opening_a_case_is_slow(deployment: Deployment) -> AsyncIterator[None]:
    """A release works for 1.1 s before it opens a case. It holds nothing meanwhile that other requests need."""
    async with AsyncExitStack() as stack:
        for replica in deployment.replicas:
            await stack.enter_async_context(restarted_with(replica, **{OPENING_SECONDS: "1.1"}))
        await stack.enter_async_context(changed_attributes(deployment.traffic, unread_cases=MANY))
        yield


SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportApiLatencyHigh",
            short=("requests of a route are slow", "request của một route chậm"),
            expr=f"({OVER_BOUND}) unless on ({BY_ROUTE}) {ROUTE_SURGE} < {API_LATENCY_SURGE}",
            alone_expr=OVER_BOUND,
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="{{ $labels.http_request_method }} {{ $labels.http_route }} is slow: 5 of 100 requests take over "
            f"{{{{ $value | humanizeDuration }}}}{SURGE_OF_ROUTE}",
            description="The 95th percentile of {{ $labels.http_request_method }} {{ $labels.http_route }} is "
            "{{ $value | humanizeDuration }}. "
            f"The limit is {API_LATENCY_P95:g} s, {API_LATENCY_P95_TIMELINE:g} s for a timeline, and "
            f"{API_LATENCY_P95_LARGE:g} s for bulk changes, reports and the audit log. It is also "
            f"{API_LATENCY_SURGE} times the day before.",
            stated=(
                f"{API_LATENCY_P95:g} s",
                f"{API_LATENCY_P95_TIMELINE:g} s",
                f"{API_LATENCY_P95_LARGE:g} s",
                f"{API_LATENCY_SURGE} ",
                f"{API_LATENCY_REQUESTS} ",
                SYMPTOM_WINDOW,
                SYMPTOM_FOR,
            ),
        ),
    ),
    records=(
        Record(ROUTE_P95, latency_p95(BY_ROUTE, TIMED)),
        Record(
            ROUTE_SURGE,
            f"{ROUTE_P95} / quantile_over_time(0.5, {ROUTE_P95}[{API_LATENCY_BEFORE}] offset {API_LATENCY_BEFORE})",
        ),
    ),
    panels=(
        Panel(
            "Support API p95 latency by route",
            f"95 of 100 requests of each route take at most this long. The line is the limit of most routes. A "
            f"timeline may take {API_LATENCY_P95_TIMELINE:g} s, bulk changes, reports and the audit log "
            f"{API_LATENCY_P95_LARGE:g} s. Uploads and downloads take as long as their clients. Normal: under 100 ms.",
            row="api",
            place=40,
            queries=(
                Query(quantile(0.95, REQUESTS, BY_ROUTE, SHOWN_ROUTES), "{{http_request_method}} {{http_route}}"),
            ),
            unit="s",
            limit=API_LATENCY_P95,
            width=12,
        ),
    ),
    faults={
        "opening a case is slow": Fault(
            ('SupportApiLatencyHigh{http_route="/support/cases"}',), request_times(FAST, SLOW, OPENING)
        ),
        "timelines take over five seconds": Fault(
            ('SupportApiLatencyHigh{http_route="/support/cases/{case_id}"}',),
            request_times(FAST, SLOW, TIMELINES, ("0.025", "5.0", "7.5")),
        ),
        "reports take over ten seconds": Fault(
            ('SupportApiLatencyHigh{http_route="/support/reports"}',),
            request_times(FAST, SLOW, REPORTS, ("0.025", "10.0", "15.0")),
        ),
        "one case in thirty is opened slowly": Fault(
            (), request_times(CounterValues(60, 58), CounterValues(0, 2), OPENING)
        ),
        "a slow route has few requests": Fault((), request_times(CounterValues(60, 0), CounterValues(0, 9), OPENING)),
        "uploads and timelines take over a second": Fault(
            (), request_times(FAST, SLOW, UPLOADS) | request_times(FAST, SLOW, TIMELINES)
        ),
    },
    drills=(
        DrillFault(
            "opening a case is slow",
            ("SupportApiLatencyHigh",),
            _opening_a_case_is_slow,
            (Cause(1, r'"POST", "http_route": "/support/cases"} [12]'),),
            scenario=DrillScenario(settings={OPENING_SECONDS: "0"}),
            only_repair="the release has to become faster",
        ),
    ),
)

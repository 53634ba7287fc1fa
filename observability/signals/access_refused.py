"""SupportAccessRefused and SupportCallerRefused: many callers, or few, are refused."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import aiohttp
from grafana.panel import Panel, Query, highest_over_replicas, rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes, repeatedly
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, WINDOW, Alert, Signal, highest_label_template, value_template

REFUSED_SHARE = 0.25  # share of authentications; one client can have it that repeats its requests, so callers count too
CALLERS_SHARE = 0.25  # share of callers; fewer can be clients of one release, and the others work
MANY_CALLERS = 3  # callers; fewer are single clients, unless they are most of them
MOST_CALLERS = 0.5  # share of callers; where there are few of them, as one gateway for all agents
OTHER_CALLERS = ("crm", "shop", "mail")  # of the drill
REFUSALS = 20  # refused authentications per window; a few requests of one client are not an outage
ACCESS_FOR = "3m"  # longer than callers take to get new tokens
AUTHENTICATIONS = "support_access_authentications_total"
REFUSED = f'sum(increase({AUTHENTICATIONS}{{outcome=~"invalid|expired|unavailable"}}[{WINDOW}]))'
TOP_OUTCOME = highest_label_template(
    "outcome", f'sum by (outcome) (rate({AUTHENTICATIONS}{{outcome!="accepted"}}[{SYMPTOM_FOR}]))'
)


SHARE = f"{REFUSED} / sum(increase({AUTHENTICATIONS}[{WINDOW}]))"
REFUSING = f"{SHARE} > {REFUSED_SHARE} and {REFUSED} >= {REFUSALS}"


def callers(outcome: str) -> str:
    """Return a query of the number of callers, of the replica that saw most of them: replicas see the same ones."""
    return f'max(support_access_callers{{outcome="{outcome}"}})'


def few(concerned: str, everyone: str) -> str:
    """Return a query that has a result if few of all callers are concerned, and none if their number is not known."""
    share = f"{concerned} / ({everyone})"
    return f"({share} <= {CALLERS_SHARE} or ({share} <= {MOST_CALLERS} and {concerned} < {MANY_CALLERS}))"


EVERYONE = f"{callers('refused')} + {callers('accepted')}"
FACTS = (
    *(f"{share * 100:g} %" for share in (REFUSED_SHARE, CALLERS_SHARE, MOST_CALLERS)),
    *(f"{REFUSALS} request", f"{MANY_CALLERS} ", WINDOW),
)
FEW_REFUSED = few(callers("refused"), EVERYONE)
EXTENT = f"{value_template(callers('refused'))} of {value_template(EVERYONE)} callers"


def _callers(outcome: str) -> str:
    return f'support_access_callers{{instance="a",outcome="{outcome}"}}'


def _authentications(outcome: str) -> str:
    return f'support_access_authentications_total{{outcome="{outcome}"}}'


@asynccontextmanager
async def _tokens_are_emptied(deployment: Deployment) -> AsyncIterator[None]:
    usual = deployment.tokens.read_bytes()
    deployment.tokens.write_text('{"tokens": []}')
    yield
    deployment.tokens.write_bytes(usual)


@asynccontextmanager
async def _keys_are_rotated_unseen(deployment: Deployment) -> AsyncIterator[None]:
    """The issuer signs with a new key, and the address of its keys does not answer."""
    deployment.issuer.add_key("new", "RSA", 2048)
    deployment.issuer.fail_with(503)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(changed_attributes(deployment.traffic, token=deployment.token("agents")))
        for caller in OTHER_CALLERS:
            await stack.enter_async_context(_repeated_reads(deployment, deployment.token(caller)))
        yield
    deployment.issuer.heal()


@asynccontextmanager
async def _one_token_expires(deployment: Deployment) -> AsyncIterator[None]:
    """A client repeats requests with a token that has expired: they are most of all requests."""
    past = datetime.now(UTC) - timedelta(hours=1)
    token = deployment.token("crm-sync", created=past - timedelta(days=1), expires=past)
    async with _repeated_reads(deployment, token, 0.02):
        yield


@asynccontextmanager
async def _repeated_reads(deployment: Deployment, token: str, interval: float = 0.5) -> AsyncIterator[None]:
    async with deployment.traffic.session(token) as session:

        async def send() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/support/cases"):
                    pass

        async with repeatedly(send, interval):
            yield


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportAccessRefused",
            short=("many callers are refused", "nhiều bên gọi bị từ chối"),
            expr=f"({REFUSING}) unless on () {FEW_REFUSED}",
            for_=ACCESS_FOR,
            severity="critical",
            summary=f"{EXTENT} are refused, with {{{{ $value | humanizePercentage }}}} of all authentications, mostly "
            f"with the outcome {TOP_OUTCOME}",
            description=f"{{{{ $value | humanizePercentage }}}} of authentications in {WINDOW} are invalid, expired "
            f"or unavailable (limit {REFUSED_SHARE:.0%} and {REFUSALS} requests), of over {CALLERS_SHARE:.0%} of the "
            "callers. The refused callers can neither read nor change cases.",
            keep_firing_for=CAUSE_KEPT,
            stated=FACTS,
        ),
        Alert(
            name="SupportCallerRefused",
            short=("few callers are refused, often", "ít bên gọi bị từ chối, nhưng nhiều lần"),
            expr=f"({REFUSING}) and on () {FEW_REFUSED}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary=f"{EXTENT} are refused again and again, with {{{{ $value | humanizePercentage }}}} of all "
            f"authentications, mostly with the outcome {TOP_OUTCOME}",
            description=f"{{{{ $value | humanizePercentage }}}} of authentications in {WINDOW} are refused (limit "
            f"{REFUSED_SHARE:.0%} and {REFUSALS} requests). They are of few callers: the others work.",
            stated=FACTS,
        ),
    ),
    panels=(
        Panel(
            "Support authentications",
            "Authentications of requests by outcome. Normal: accepted, and a few expired. Many invalid: a client "
            "guesses tokens. unavailable: the issuer's keys can't be read. No data with SUPPORT_AUTH=open.",
            row="access",
            place=10,
            queries=(Query(rate("support_access_authentications_total", "outcome"), "{{outcome}}"),),
            unit="reqps",
        ),
        Panel(
            "Support callers",
            "Callers of the last 5 minutes except the probe, of the replica that saw most. Normal: few are refused or "
            "forbidden. The log names them. No data with SUPPORT_AUTH=open.",
            row="access",
            place=12,
            queries=(Query(highest_over_replicas("support_access_callers", "outcome"), "{{outcome}}"),),
            unit="short",
            alerts=("SupportAccessRefused", "SupportCallerRefused", "SupportWritesForbidden"),
        ),
    ),
    faults={
        "tokens of all clients are refused": Fault(
            ("SupportAccessRefused",),
            {_authentications("accepted"): CounterValues(10, 1), _authentications("invalid"): CounterValues(0, 9)},
        ),
        "the token of one client has expired": Fault(
            (),
            {_authentications("accepted"): CounterValues(100, 90), _authentications("expired"): CounterValues(1, 10)},
        ),
        "most callers of a few are refused": Fault(
            ("SupportAccessRefused",),
            {
                _authentications("accepted"): CounterValues(100, 60),
                _authentications("invalid"): CounterValues(1, 40),
                _callers("accepted"): GaugeValues(3, 1),
                _callers("refused"): GaugeValues(0, 2),
            },
        ),
        "a third of many callers is refused": Fault(
            ("SupportAccessRefused",),
            {
                _authentications("accepted"): CounterValues(100, 60),
                _authentications("expired"): CounterValues(1, 40),
                _callers("accepted"): GaugeValues(15, 10),
                _callers("refused"): GaugeValues(0, 5),
            },
        ),
        "one client of few repeats its requests with an expired token": Fault(
            ("SupportCallerRefused",),
            {
                _authentications("accepted"): CounterValues(14, 14),
                _authentications("expired"): CounterValues(0, 10),
                _callers("accepted"): GaugeValues(2, 1),
                _callers("refused"): GaugeValues(0, 1),
            },
        ),
        "nobody sends a token": Fault(
            (),
            {_authentications("accepted"): CounterValues(100, 50), _authentications("missing"): CounterValues(1, 50)},
        ),
    },
    drills=(
        DrillFault(
            "one token expired",
            ("SupportCallerRefused",),
            _one_token_expires,
            (Cause(1, "Requests of crm-sync from .* are refused: token_expired"),),
            only_repair="the client has to renew its token",
        ),
        DrillFault(
            "token file emptied",
            ("SupportAccessRefused",),
            _tokens_are_emptied,
            (Cause(2, "token file changed"),),
            only_repair="the tokens have to come back",
        ),
        DrillFault(
            "keys rotated while unreachable",
            ("SupportAccessRefused",),
            _keys_are_rotated_unseen,
            (Cause(2, "SUPPORT_JWT_KEYS can't be loaded"),),
            scenario=DrillScenario(jwt=True),
            only_repair="the issuer has to publish the key",
        ),
    ),
    exercises=(Exercise(("empty the token file", "làm trống file token"), ("restore the file", "khôi phục file")),),
)

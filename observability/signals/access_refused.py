"""SupportAccessRefused: callers are refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, WINDOW, Alert, Signal, highest_label_template

REFUSED_SHARE = 0.25  # share of authentications; a client whose token has expired is far below it
REFUSALS = 20  # refused authentications per window; a few requests of one client are not an outage
ACCESS_FOR = "3m"  # longer than callers take to get new tokens
AUTHENTICATIONS = "support_access_authentications_total"
REFUSED = f'sum(increase({AUTHENTICATIONS}{{outcome=~"invalid|expired|unavailable"}}[{WINDOW}]))'
TOP_OUTCOME = highest_label_template(
    "outcome", f'sum by (outcome) (rate({AUTHENTICATIONS}{{outcome!="accepted"}}[{SYMPTOM_FOR}]))'
)


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
    async with changed_attributes(deployment.traffic, token=deployment.token("agents")):
        yield
    deployment.issuer.heal()


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportAccessRefused",
            short=("callers are refused", "bên gọi bị từ chối"),
            expr=f"{REFUSED} / sum(increase({AUTHENTICATIONS}[{WINDOW}])) > {REFUSED_SHARE}"
            f" and {REFUSED} >= {REFUSALS}",
            for_=ACCESS_FOR,
            severity="critical",
            summary="{{ $value | humanizePercentage }} of callers are refused, mostly with the outcome "
            f"{TOP_OUTCOME}",
            description=f"{{{{ $value | humanizePercentage }}}} of authentications in {WINDOW} are invalid, expired "
            f"or unavailable (limit {REFUSED_SHARE:.0%} and {REFUSALS} requests). These callers can neither read nor "
            "change cases.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{REFUSED_SHARE * 100:g} %", f"{REFUSALS} request", WINDOW, ACCESS_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support authentications",
            "Authentications of requests by outcome. Normal: accepted, and a few expired. Many invalid: a client "
            "guesses tokens; unavailable: the issuer's keys can't be read. No data with SUPPORT_AUTH=open.",
            row="access",
            place=10,
            queries=(Query(rate("support_access_authentications_total", "outcome"), "{{outcome}}"),),
            unit="reqps",
        ),
    ),
    faults={
        "tokens of all clients are refused": Fault(
            ("SupportAccessRefused",),
            {_authentications("accepted"): CounterValues(100, 10), _authentications("invalid"): CounterValues(1, 90)},
        ),
        "the token of one client has expired": Fault(
            (),
            {_authentications("accepted"): CounterValues(100, 90), _authentications("expired"): CounterValues(1, 10)},
        ),
        "nobody sends a token": Fault(
            (),
            {_authentications("accepted"): CounterValues(100, 50), _authentications("missing"): CounterValues(1, 50)},
        ),
    },
    drills=(
        DrillFault(
            "token file emptied",
            ("SupportAccessRefused",),
            _tokens_are_emptied,
            (Cause(3, "token file changed"),),
            only_repair="the tokens have to come back",
        ),
        DrillFault(
            "keys rotated while unreachable",
            ("SupportAccessRefused",),
            _keys_are_rotated_unseen,
            (Cause(3, "SUPPORT_JWT_KEYS can't be loaded"),),
            scenario=DrillScenario(jwt=True),
            only_repair="the issuer has to publish the key",
        ),
    ),
    exercises=(Exercise(("empty the token file", "làm trống file token"), ("restore the file", "khôi phục file")),),
)

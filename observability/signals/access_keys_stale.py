"""SupportAccessKeysStale: keys or tokens cannot be read again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, selector

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import CAUSE_FOR, Alert, Signal, scaled_seconds

KEYS_AGE = 900  # s; keys are read every 5 min, the token file every few seconds


@asynccontextmanager
async def _keys_cannot_be_read(deployment: Deployment) -> AsyncIterator[None]:
    deployment.issuer.fail_with(503)
    yield
    deployment.issuer.heal()


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportAccessKeysStale",
            short=("keys or tokens cannot be read again", "không đọc lại được khoá hoặc token"),
            expr=" or ".join(
                f"label_replace(max by (instance) (support_access_{read}_age_seconds) > {scaled_seconds(KEYS_AGE)},"
                f' "dependency", "{read}", "", "")'
                for read in ("keys", "tokens")
            ),
            for_=CAUSE_FOR,
            severity="warning",
            summary="{{ $labels.instance }} verifies callers with {{ $labels.dependency }} that are "
            "{{ $value | humanizeDuration }} old",
            description="{{ $labels.instance }} last read its {{ $labels.dependency }} "
            f"{{{{ $value | humanizeDuration }}}} ago (limit {KEYS_AGE} s). New keys and tokens are refused, and "
            "revoked tokens are accepted, until it reads them.",
            stated=(f"{KEYS_AGE} s", CAUSE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support age of the issuer's keys",
            "Time since each replica last read the keys that verify JWTs, or the token file. Normal: under 5 min. "
            "While it grows, replicas use those that they know. 0 without JWTs, or without a token file.",
            row="access",
            place=20,
            queries=(
                Query(selector("support_access_keys_age_seconds"), "{{instance}} keys"),
                Query(selector("support_access_tokens_age_seconds"), "{{instance}} tokens"),
            ),
            unit="s",
            limit=KEYS_AGE,
        ),
    ),
    faults={
        "keys cannot be read": Fault(
            ('SupportAccessKeysStale{instance="a",dependency="keys"}',),
            {'support_access_keys_age_seconds{instance="a"}': GaugeValues(KEYS_AGE / 2, KEYS_AGE * 2)},
        ),
        "the token file cannot be read": Fault(
            ('SupportAccessKeysStale{instance="a",dependency="tokens"}',),
            {'support_access_tokens_age_seconds{instance="a"}': GaugeValues(KEYS_AGE / 2, KEYS_AGE * 2)},
        ),
    },
    drills=(
        DrillFault(
            "keys unreachable",
            ("SupportAccessKeysStale[keys]",),
            _keys_cannot_be_read,
            (Cause(2, "SUPPORT_JWT_KEYS can't be loaded"),),
            scenario=DrillScenario(jwt=True),
            only_repair="the address of the keys has to answer again",
        ),
    ),
    exercises=(
        Exercise(
            (
                "make the address of the issuer's keys refuse connections",
                "cho địa chỉ khoá của bên phát hành từ chối kết nối",
            ),
            ("make it respond normally", "cho nó trả lời bình thường"),
        ),
    ),
)

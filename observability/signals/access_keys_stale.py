"""SupportAccessKeysStale: keys or tokens cannot be read again, or nobody can sign in at the provider."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from grafana.panel import Panel, Query, selector

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes, repeatedly
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import CAUSE_FOR, SYMPTOM_FOR, Alert, Signal, scaled_seconds

KEYS_AGE = 900  # s; keys are read every 5 min, the token file every few seconds
UNVERIFIED = 5  # sign-ins in UNVERIFIED_WINDOW; few people sign in at a time, and one may try again
UNVERIFIED_WINDOW = "15m"  # people who can't sign in try again for as long
UNAVAILABLE = 'support_access_authentications_total{outcome="unavailable"}'
ACCEPTED = 'support_access_authentications_total{outcome="accepted"}'
PROVIDER_FAILS = (
    f"sum(increase({UNAVAILABLE}[{UNVERIFIED_WINDOW}])) >= {UNVERIFIED}"
    f" and sum(increase({UNAVAILABLE}[{SYMPTOM_FOR}])) > 0"
)
STALE = '{{ if ne $labels.dependency "provider" }}'


@asynccontextmanager
async def _keys_cannot_be_read(deployment: Deployment) -> AsyncIterator[None]:
    deployment.issuer.fail_with(503)
    yield
    deployment.issuer.heal()


@asynccontextmanager
async def _secret_of_the_service_has_expired(deployment: Deployment) -> AsyncIterator[None]:
    """The secret of the service is not the secret that the provider takes. Now and then a person signs in."""

    async def sign_in() -> None:
        login = f"{deployment.load_balancer.ingress}/console/login"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(login, allow_redirects=False) as response:
                address = response.headers["Location"]
            async with browser.get(deployment.provider.approve(address)):
                pass

    other = {"secret": deployment.provider.secret[::-1]}
    async with changed_attributes(deployment.provider, **other), repeatedly(sign_in, 2.5):
        yield


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportAccessKeysStale",
            short=(
                "keys or tokens cannot be read again, or sign-ins fail",
                "không đọc lại được khoá hoặc token, hoặc không đăng nhập được",
            ),
            expr=" or ".join(
                (
                    *(
                        f"label_replace(max by (instance) (support_access_{read}_age_seconds) >"
                        f' {scaled_seconds(KEYS_AGE)}, "dependency", "{read}", "", "")'
                        for read in ("keys", "tokens")
                    ),
                    f'label_replace({PROVIDER_FAILS}, "dependency", "provider", "", "")',
                )
            ),
            for_=CAUSE_FOR,
            severity="warning",
            summary=f"{STALE}{{{{ $labels.instance }}}} verifies callers with {{{{ $labels.dependency }}}} that are "
            "{{ $value | humanizeDuration }} old{{ else }}The {{ $labels.dependency }} of sign-ins, or of keys, gives "
            "no answer: {{ $value | humanize }} callers could not be verified{{ end }}",
            description=f"{STALE}{{{{ $labels.instance }}}} last read its {{{{ $labels.dependency }}}} "
            f"{{{{ $value | humanizeDuration }}}} ago (limit {KEYS_AGE} s). New keys and tokens are refused, and "
            "revoked tokens are accepted, until it reads them. {{ else }}"
            f"{{{{ $value | humanize }}}} sign-ins or requests of {UNVERIFIED_WINDOW} could not be verified (limit "
            f"{UNVERIFIED}), some of them in the last {SYMPTOM_FOR}. People who are not signed in "
            "can't work in the console.{{ end }}",
            stated=(f"{KEYS_AGE} s", CAUSE_FOR, f"{UNVERIFIED} ", UNVERIFIED_WINDOW, SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support age of the issuer's keys",
            "Time since each replica last read the keys that verify JWTs, or the token file. Normal: under 5 min. "
            "While it grows, replicas use the keys that they know. 0 without JWTs, or without a token file.",
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
        "nobody can sign in, and everyone who is signed in works": Fault(
            ('SupportAccessKeysStale{dependency="provider"}',),
            {UNAVAILABLE: CounterValues(0, 0.6), ACCEPTED: CounterValues(300, 300)},
        ),
        "a sign-in fails now and then": Fault(
            (), {UNAVAILABLE: CounterValues(0, 0.2), ACCEPTED: CounterValues(300, 300)}
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
        DrillFault(
            "secret of the sign-in provider expired",
            ("SupportAccessKeysStale[provider]",),
            _secret_of_the_service_has_expired,
            (Cause(2, "does not give tokens.*invalid_client"),),
            scenario=DrillScenario(sign_in=True),
            only_repair="the service needs the new secret",
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

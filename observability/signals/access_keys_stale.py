"""SupportAccessKeysStale: keys or tokens cannot be read again."""

from grafana.panel import Panel, Query, series

from observability.faults import Fault, Gauge
from observability.signal import CAUSE_FOR, Alert, Signal, seconds

KEYS_AGE = 900  # s; keys are read every 5 min, the token file every few seconds

SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportAccessKeysStale",
            short=("keys or tokens cannot be read again", "không đọc lại được khoá hoặc token"),
            expr=" or ".join(
                f"label_replace(max by (instance) (support_access_{read}_age_seconds) > {seconds(KEYS_AGE)},"
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
                Query(series("support_access_keys_age_seconds"), "{{instance}} keys"),
                Query(series("support_access_tokens_age_seconds"), "{{instance}} tokens"),
            ),
            unit="s",
            limit=KEYS_AGE,
        ),
    ),
    faults={
        "keys cannot be read": Fault(
            ('SupportAccessKeysStale{instance="a",dependency="keys"}',),
            {'support_access_keys_age_seconds{instance="a"}': Gauge(60, 60, 60)},
        ),
        "the token file cannot be read": Fault(
            ('SupportAccessKeysStale{instance="a",dependency="tokens"}',),
            {'support_access_tokens_age_seconds{instance="a"}': Gauge(1, 60, 60)},
        ),
    },
)

"""Alerts on refused requests: authentication, limits, and requests that clients get wrong."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds
from observability.alerts.objectives import ROUTED

W = t.WINDOW
NOW = t.SYMPTOM_WINDOW
AUTHENTICATIONS = "support_access_authentications_total"
TURNED_AWAY = f"sum(increase(support_request_turned_away_total[{NOW}]))"
REFUSED = f'sum(increase({AUTHENTICATIONS}{{outcome=~"invalid|expired|unavailable"}}[{W}]))'
CLIENT_ERROR = 'http_response_status_code=~"4..",http_response_status_code!~"401|404|429"'


def _by_route(where: str = "") -> str:
    series = f'http_server_request_duration_seconds_count{{{ROUTED},http_route!="other"{where}}}'
    return f"sum by (http_route) (increase({series}[{NOW}]))"


def most(label: str, expr: str) -> str:
    """Return text of a template that names the value of `label` with the highest result of a query."""
    return f"{{{{ range query `topk(1, {expr})` }}}}{{{{ .Labels.{label} }}}}{{{{ end }}}}"


TOP_OUTCOME = most("outcome", f'sum by (outcome) (rate({AUTHENTICATIONS}{{outcome!="accepted"}}[{t.SYMPTOM_FOR}]))')
TOP_REASON = most("reason", f"sum by (reason) (rate(support_request_turned_away_total[{t.SYMPTOM_FOR}]))")

TOP_STATUS = (
    "{{ range query (printf `topk(1, sum by (http_response_status_code) "
    f"(rate(http_server_request_duration_seconds_count{{{ROUTED},http_route=%q,{CLIENT_ERROR}}}[{t.SYMPTOM_FOR}])))`"
    " $labels.http_route) }}, mostly {{ .Labels.http_response_status_code }}{{ end }}"
)

ALERTS = (
    Alert(
        "SupportAccessRefused",
        ("callers are refused", "bên gọi bị từ chối"),
        f"{REFUSED} / sum(increase({AUTHENTICATIONS}[{W}])) > {t.REFUSED_SHARE} and {REFUSED} >= {t.REFUSALS}",
        t.ACCESS_FOR,
        "critical",
        f"{{{{ $value | humanizePercentage }}}} of callers are refused, mostly with the outcome {TOP_OUTCOME}",
        f"{{{{ $value | humanizePercentage }}}} of authentications in {W} are invalid, expired or unavailable (limit "
        f"{t.REFUSED_SHARE:.0%} and {t.REFUSALS} requests). These callers can neither read nor change cases.",
        "Support authentications",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportAccessKeysStale",
        ("keys or tokens cannot be read again", "không đọc lại được khoá hoặc token"),
        f'label_replace(max by (instance) (support_access_keys_age_seconds) > {seconds(t.KEYS_AGE)}, "dependency", '
        '"keys", "", "")'
        f" or label_replace(max by (instance) (support_access_tokens_age_seconds) > {seconds(t.KEYS_AGE)}, "
        '"dependency", "tokens", "", "")',
        t.CAUSE_FOR,
        "warning",
        "{{ $labels.instance }} verifies callers with {{ $labels.dependency }} that are "
        "{{ $value | humanizeDuration }} old",
        "{{ $labels.instance }} last read its {{ $labels.dependency }} {{ $value | humanizeDuration }} ago (limit "
        f"{t.KEYS_AGE} s). New keys and tokens are refused, and revoked tokens are accepted, until it reads them.",
        "Support age of the issuer's keys",
    ),
    Alert(
        "SupportRequestsTurnedAway",
        ("limits refuse many requests", "giới hạn từ chối nhiều request"),
        f"{TURNED_AWAY} / sum(increase(support_request_received_total[{NOW}])) > {t.TURNED_AWAY_SHARE}"
        f" and {TURNED_AWAY} >= {t.TURNED_AWAY}",
        t.SYMPTOM_FOR,
        "warning",
        f"Limits refuse {{{{ $value | humanizePercentage }}}} of requests, mostly for the reason {TOP_REASON}",
        f"{{{{ $value | humanizePercentage }}}} of requests in {NOW} were answered with 429 or 503 by a limit (limit "
        f"{t.TURNED_AWAY_SHARE:.0%} and {t.TURNED_AWAY} requests). Their callers must repeat them.",
        "Support requests turned away",
    ),
    Alert(
        "SupportClientErrorsHigh",
        ("many requests of a route are client errors", "nhiều request của một route là lỗi phía client"),
        f"{_by_route(f',{CLIENT_ERROR}')} / {_by_route()} > {t.CLIENT_ERROR_SHARE}"
        f" and {_by_route(f',{CLIENT_ERROR}')} >= {t.CLIENT_ERRORS}",
        t.SYMPTOM_FOR,
        "warning",
        "{{ $value | humanizePercentage }} of requests to {{ $labels.http_route }} are client errors" + TOP_STATUS,
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.http_route }} are 4xx except 401, 404 and 429 "
        f"(limit {t.CLIENT_ERROR_SHARE:.0%} and {t.CLIENT_ERRORS} requests in {NOW}). A client or a release has broken "
        "the contract.",
        "Support client errors by route",
    ),
)

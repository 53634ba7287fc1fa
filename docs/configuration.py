"""Write docs/configuration.md and the chart's settings.json from the settings, or with --check only compare them."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from generated_page import write_or_check
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from support_service.core.units import MAX_DURATION, MAX_INTEGER, REQUEST_RATE_PATTERN
from support_service.platform.settings import value_types
from support_service.platform.settings.section import SettingsSection

PAGE = Path(__file__).parent / "configuration.md"
CHART = Path(__file__).parents[1] / "observability/helm/support-service/settings.json"
HEAD = """\
# Configuration

All settings come from environment variables. `make configuration` generates this page from
`src/support_service/platform/settings/`. An invalid value stops the start with one line that names the variable, the
value and the expected values. An unknown `SUPPORT_` variable causes a warning. So do the
`SERVICE_` variables of the [earlier support-service](operations/earlier-service.md#settings). An empty value counts as
unset. Durations are a number with a unit: `s`, `m`, `h`, `d` or `w`.

Each variable of `SUPPORT_` and `AWS_` below may be in a file: `SUPPORT_WEBHOOKS_FILE` names the file with the value of
`SUPPORT_WEBHOOKS`. It is read at the start. The password of the database is read for each new connection: see
[secrets in files](operations/deployment.md#secrets-in-files).
"""
# What compose, the manifests and the chart all set.
FIRST_DEPLOYMENT = (
    *("SUPPORT_HOST", "SUPPORT_AUTH", "SUPPORT_TOKENS_FILE", "SUPPORT_DATABASE_URL", "SUPPORT_REDIS_URL"),
    *("SUPPORT_S3_BUCKET", "SUPPORT_ORDER_URL", "SUPPORT_PAYMENT_URL", "SUPPORT_FULFILLMENT_URL"),
)
FORMS = [  # first match wins; compared as types with their metadata
    (value_types.Networks, "IP addresses and networks, comma-separated"),
    (value_types.Origins, "origins, comma-separated"),
    (value_types.ContentTypes, "content types, comma-separated"),
    (value_types.Channels, "channels, comma-separated"),
    (value_types.RequestRate, "rate, such as `100/s`, `6000/min`, or `off`"),
    (value_types.Duration, "duration, such as `30d`"),
    (value_types.Seconds, "seconds"),
    (value_types.Count, "integer"),
    (value_types.Share, "percentage, such as `1%`"),
    (value_types.MetricsExporters, "`prometheus`, `otlp`, `console`, comma-separated, or `none`"),
    (value_types.TracesExporters, "`otlp`, `console`, comma-separated, or `none`"),
    (value_types.RoleMap, "pairs of GROUP:ROLE, comma-separated"),
    (value_types.GroupMap, "pairs of GROUP:TEAM, comma-separated"),
    (value_types.KeySource, "URL of a JWKS, or path of a file with a JWKS or PEM keys"),
    (value_types.Issuer, "URL"),
    (value_types.Scopes, "scopes, separated by blanks"),
    (value_types.BaseUrl, "URL"),
    (
        value_types.RedisUrl,
        "URL: `redis://`, `rediss://`, `unix://` or [`redis+sentinel://`](operations/redis.md#sentinel)",
    ),
    (value_types.DatabaseUrl, "URL: `sqlite:///PATH` or `postgresql://…`; a driver, such as `+asyncpg`, is ignored"),
    (value_types.Token, "token"),
    (SecretStr, "text"),
    (value_types.Webhooks, "JSON list"),
    (bool, "`true` or `false`"),
    (int, "integer"),
    (float, "number"),
    (Path, "path"),
    (str, "text"),
]
# What the chart takes as a value of a type: regular expressions of Go, which have to match the whole value.
NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
PATTERNS = {
    value_types.RequestRate: rf"(?i:off)|{REQUEST_RATE_PATTERN.pattern}",
    value_types.Duration: r"\d+(\.\d+)?\s*[smhdw]",
    value_types.Seconds: NUMBER,
    value_types.Count: r"[+-]?\d+",
    value_types.Share: r"\d+(\.\d+)?\s*%",
    value_types.BaseUrl: r"https?://.+",
    value_types.RedisUrl: r"(redis|rediss|unix|rediss?\+sentinel)://.+",
    value_types.DatabaseUrl: r"sqlite(\+\w+)?:///.+|postgresql(\+\w+)?://.+",
    bool: r"(?i:true|false|1|0|yes|no|on|off|t|f|y|n)",
    int: r"[+-]?\d+",
    float: NUMBER,
}
ALSO_ACCEPTED = {"SUPPORT_LOG_LEVEL": ("warn",)}
KEYS_OF_LIMITS = {"gt": "above", "ge": "minimum", "le": "maximum"}
FORMS_OF_LIMITS = {
    "gt": "greater than {:,}",
    "ge": "at least {:,}",
    "le": "at most {:,}",
    "min_length": "at least {:,} characters",
}
UNBOUNDED = (MAX_DURATION.total_seconds(), MAX_INTEGER)  # bounds of the databases, far beyond any sensible value


def page() -> str:
    """Return the page for the current settings."""
    rows = {section: _rows(section) for section in SettingsSection.__subclasses__()}
    by_name = {name: row for each in rows.values() for name, row in each.items()}
    first = _table("A first deployment", [by_name[name] for name in FIRST_DEPLOYMENT])
    return (
        HEAD
        + first
        + "".join(
            _table(
                (section.__doc__ or "").partition("\n")[0].removesuffix("."),
                [row for name, row in each.items() if name not in FIRST_DEPLOYMENT],
            )
            for section, each in rows.items()
            if each.keys() - {*FIRST_DEPLOYMENT}
        )
    )


def settings_of_chart() -> str:
    """Return what the chart knows of each setting: the expected values, as text and as a pattern, and the default."""
    rows = []
    for section in SettingsSection.__subclasses__():
        hints = get_type_hints(section, include_extras=True)
        for name, field in section.model_fields.items():
            rows.append(f"  {json.dumps(field.alias)}: {json.dumps(_known_to_chart(hints[name], field))}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _known_to_chart(hint: Any, field: FieldInfo) -> dict[str, Any]:
    known: dict[str, Any] = {"expected": re.sub(r"`|\[|\]\(.*?\)", "", _expected(hint, field))}
    hint = _without_none(hint)
    if get_origin(hint) is Literal:
        options = (*get_args(hint), *ALSO_ACCEPTED.get(str(field.alias), ()))
        known["pattern"] = f"(?i:{'|'.join(map(re.escape, options))})"
    elif pattern := next((PATTERNS[each] for each, _ in FORMS if each in PATTERNS and _is_form(each, hint)), None):
        known["pattern"] = pattern
    known |= {KEYS_OF_LIMITS[name]: limit for name, limit in _limits(field) if name in KEYS_OF_LIMITS}
    return known | {"default": _default(hint, field.default).strip("`")}


def _rows(section: type[SettingsSection]) -> dict[str, str]:
    hints = get_type_hints(section, include_extras=True)
    return {str(field.alias): _row(hints[name], field) for name, field in section.model_fields.items()}


def _table(title: str, rows: list[str]) -> str:
    head = [f"\n## {title}\n", "| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _row(hint: Any, field: FieldInfo) -> str:
    if not field.description:
        sys.exit(f"{field.alias} has no description: say what the setting does in `description` of its field")
    return f"| `{field.alias}` | {_expected(hint, field)} | {_default(hint, field.default)} | {field.description} |"


def _expected(hint: Any, field: FieldInfo) -> str:
    return ", ".join([_form(hint), *(FORMS_OF_LIMITS[name].format(limit) for name, limit in _limits(field))])


def _form(hint: Any) -> str:
    """Return how a value is written. Raises LookupError for a type that is not in FORMS."""
    hint = _without_none(hint)
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    for known, form in FORMS:
        if _is_form(known, hint):
            return form
    raise LookupError(f"docs/configuration.py has no form for {hint}")


def _without_none(hint: Any) -> Any:
    options = [each for each in get_args(hint) if each is not NoneType]
    return options[0] if len(options) == 1 and NoneType in get_args(hint) else hint


def _is_form(known: Any, hint: Any) -> bool:
    return known in (hint, getattr(hint, "__origin__", hint))


def _limits(field: FieldInfo) -> Iterator[tuple[str, float]]:
    for each in field.metadata:
        for name in FORMS_OF_LIMITS:
            if (limit := getattr(each, name, None)) is not None and limit not in UNBOUNDED:
                yield name, limit


def _default(hint: Any, default: Any) -> str:
    if default is None or default == () or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():.10g}s`"
    if hint == value_types.Share:
        return f"`{default:.0%}`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{default}`"


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, {PAGE: page(), CHART: settings_of_chart()}))

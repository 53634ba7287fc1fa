"""Variables of the earlier support-service: its prefix was `SERVICE_`, and case did not matter."""

from collections.abc import Iterator, Mapping

EARLIER_PREFIX = "SERVICE_"
NEW_NAME_BY_EARLIER_NAME = {
    "SERVICE_HOST": "SUPPORT_HOST",
    "SERVICE_PORT": "SUPPORT_PORT",
    "SERVICE_LOG_LEVEL": "SUPPORT_LOG_LEVEL",
    "SERVICE_DATABASE_URL": "SUPPORT_DATABASE_URL",
    "SERVICE_DATABASE_POOL_SIZE": "SUPPORT_DATABASE_POOL",
    "SERVICE_DB_POOL_SIZE": "SUPPORT_DATABASE_POOL",
    "SERVICE_REDIS_URL": "SUPPORT_REDIS_URL",
    "SERVICE_CORS_ORIGINS": "SUPPORT_CORS_ORIGINS",
    "SERVICE_TIMELINE_CACHE_TTL": "SUPPORT_TIMELINE_CACHE_TTL",
    "SERVICE_TIMELINE_CACHE_TTL_SECONDS": "SUPPORT_TIMELINE_CACHE_TTL",
    "SERVICE_TIMELINE_TIMEOUT": "SUPPORT_TIMELINE_SOURCE_TIMEOUT",
    "SERVICE_TIMELINE_TIMEOUT_SECONDS": "SUPPORT_TIMELINE_SOURCE_TIMEOUT",
    "SERVICE_HTTP_TIMEOUT": "SUPPORT_TIMELINE_SOURCE_TIMEOUT",
    "SERVICE_HTTP_TIMEOUT_SECONDS": "SUPPORT_TIMELINE_SOURCE_TIMEOUT",
    "SERVICE_ATTACHMENT_DIR": "SUPPORT_ATTACHMENT_DIR",
    "SERVICE_SUPPORT_ATTACHMENT_DIR": "SUPPORT_ATTACHMENT_DIR",
    "SERVICE_ATTACHMENT_MAX_BYTES": "SUPPORT_ATTACHMENT_MAX_BYTES",
    "SERVICE_SUPPORT_ATTACHMENT_MAX_BYTES": "SUPPORT_ATTACHMENT_MAX_BYTES",
    **{
        f"SERVICE_{service}_{end}": f"SUPPORT_{service}_URL"
        for service in ("ORDER", "PAYMENT", "FULFILLMENT")
        for end in ("SERVICE_URL", "BASE_URL", "URL")
    },
}


def earlier_variables_warning(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield one warning that names all variables of the earlier service with their new names, or nothing.

    Values are not shown. What Kubernetes sets for a Service named `service` is left out.
    """
    given = sorted(
        name for name, value in environ.items() if name.upper().startswith(EARLIER_PREFIX) and _is_setting(name, value)
    )
    if given:
        renamed = (
            f"{name} is now {NEW_NAME_BY_EARLIER_NAME[name.upper()]}"
            if name.upper() in NEW_NAME_BY_EARLIER_NAME
            else f"{name} has no counterpart"
            for name in given
        )
        yield f"Variables of the earlier support-service have no effect: {', '.join(renamed)}"


def _is_setting(name: str, value: str) -> bool:
    return bool(value) and "_PORT_" not in name and not (name == "SERVICE_PORT" and "://" in value)

"""The `support-service timeline` commands: set, clear and show overrides in the database, which every replica polls."""

import argparse
import re
from collections.abc import Mapping
from datetime import timedelta

from support_service.commands.runtime.cli_principal import cli_principal
from support_service.commands.runtime.database import run_on_database
from support_service.commands.runtime.tables import print_table, time_cell
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.errors import ValidationFailed
from support_service.platform.database import Database
from support_service.platform.idempotency.unit_of_work import WriteOrigin, unit_of_work
from support_service.platform.settings import Settings
from support_service.timeline import overrides
from support_service.timeline.override_rules import check_ttl, clean_reason, parse_override_duration
from support_service.timeline.overrides import OVERRIDE_NAMES, REFRESH_INTERVAL, TTL_OVERRIDE, Override

PROPAGATION_NOTE = f"Every replica applies it within about {REFRESH_INTERVAL:g} s."


def degrade(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Stop asking an upstream service for a limited time.

    Raises ValidationFailed for an unknown service, an empty or wrong reason, or a wrong duration.
    """
    settings = Settings.load(environ)
    if arguments.service not in UPSTREAM_SERVICES:
        raise ValidationFailed(
            "unknown_service", f"unknown service {arguments.service!r}: expected one of {', '.join(UPSTREAM_SERVICES)}"
        )
    if not arguments.reason.strip():
        raise ValidationFailed("reason_missing", "--reason is empty: give a reason for agents and for the next on-call")
    _set_override(settings, arguments.service, None, arguments)


def ttl(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Override for a limited time how long timeline answers count as fresh.

    Raises ValidationFailed for a wrong number of seconds, reason or duration.
    """
    settings = Settings.load(environ)
    text = arguments.seconds
    try:
        seconds = check_ttl(float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) else 0.0)
    except ValueError as expected:
        raise ValidationFailed("wrong_ttl", f"invalid TTL {text!r}: expected {expected}") from None
    _set_override(settings, TTL_OVERRIDE, seconds, arguments)


def _set_override(settings: Settings, name: str, value: float | None, arguments: argparse.Namespace) -> None:
    try:
        reason = clean_reason(arguments.reason)
    except ValueError as expected:
        raise ValidationFailed("wrong_reason", f"invalid --reason: expected {expected}") from None
    now = utc_now()
    override = Override(name, value, reason, now + _duration(arguments.time), now)

    async def store(database: Database) -> None:
        async with unit_of_work(database, WriteOrigin(cli_principal())) as work:
            await overrides.set_override(work, override)

    run_on_database(settings, store)
    print(f"{name} is {override.text}. {PROPAGATION_NOTE}")


def clear(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Clear overrides before they expire. Raises ValidationFailed for an unknown override."""
    settings = Settings.load(environ)
    if arguments.override not in (*OVERRIDE_NAMES, "all"):
        expected = f"{', '.join(OVERRIDE_NAMES)} or all"
        raise ValidationFailed("unknown_override", f"unknown override {arguments.override!r}: expected {expected}")
    names = OVERRIDE_NAMES if arguments.override == "all" else (arguments.override,)

    async def delete(database: Database) -> list[Override]:
        async with unit_of_work(database, WriteOrigin(cli_principal())) as work:
            return await overrides.clear_overrides(work, names)

    now = utc_now()
    cleared = [override.name for override in run_on_database(settings, delete) if override.until > now]
    if cleared:
        print(f"Cleared: {', '.join(sorted(cleared))}. {PROPAGATION_NOTE}")
    else:
        print("Nothing to clear: the override is not active.")


def status(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the active overrides."""
    settings = Settings.load(environ)
    now = utc_now()
    active = [override for override in run_on_database(settings, overrides.read_overrides) if override.until > now]
    if not active:
        print("No override is active: every configured service is called, and SUPPORT_TIMELINE_CACHE_TTL applies.")
        return
    table = [("OVERRIDE", "VALUE", "UNTIL", "LEFT", "SET AT", "REASON")]
    table += [
        (
            override.name,
            "off" if override.value is None else f"{override.value:g} s",
            time_cell(override.until),
            f"{(override.until - now).total_seconds():.0f} s",
            time_cell(override.set_at),
            override.reason or "-",
        )
        for override in active
    ]
    print_table(table)


def _duration(text: str) -> timedelta:
    try:
        return parse_override_duration(text)
    except ValueError as expected:
        raise ValidationFailed("wrong_duration", f"invalid --for {text!r}: expected {expected}") from None

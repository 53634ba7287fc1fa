"""The `support-service timeline` commands: set, clear and show overrides in the database, which every replica polls."""

import argparse
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_table, time_cell
from support_service.commands.runtime import cli_principal, load_settings, run_on_database
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, join_with_or
from support_service.core.errors import problem

if TYPE_CHECKING:
    from support_service.platform.database import Database
    from support_service.platform.settings import Settings
    from support_service.timeline.overrides import Override

EXAMPLES = """\
examples:
  support-service timeline degrade payment --for 30m --reason "payment-service is being restored"
  support-service timeline ttl 1800 --for 2h --reason "order-service is slow"
  support-service timeline status
  support-service timeline clear payment
  support-service timeline clear all

Overrides are stored in the database at SUPPORT_DATABASE_URL. Every replica applies them within seconds, and each
expires at its end. Durations: 90s, 30m, 2h, 1d; at most 7d. Snapshots that were cached before the `ttl` override keep
their expiry: SUPPORT_TIMELINE_CACHE_TTL and an hour.
"""
EXAMPLE_PREFIX = "example:\n  support-service timeline "


def add_to(commands: grammar.Subcommands) -> None:
    """Add `timeline` to the commands."""
    what = "set, clear and show timeline overrides: switch a source off, or keep its answers fresh for longer"
    actions = commands.group("timeline", what, "ACTION", epilog=EXAMPLES)
    example = f'{EXAMPLE_PREFIX}degrade payment --for 30m --reason "being restored"'
    degrading = actions.add("degrade", "set an override: stop calling a service", set_degrade_override, epilog=example)
    degrading.add_argument("service", metavar="SERVICE", help=", ".join(UPSTREAM_SERVICES))
    example = f"{EXAMPLE_PREFIX}ttl 1800 --for 2h"
    freshness = actions.add(
        "ttl", "set an override: how long cached answers are fresh", set_ttl_override, epilog=example
    )
    freshness.add_argument("seconds", metavar="SECONDS", help="1 to 86400")
    for parser in (degrading, freshness):
        parser.add_argument(
            "--for", dest="time", metavar="DURATION", required=True, help="90s, 30m, 2h, 1d; at most 7d"
        )
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            required=parser is degrading,
            default="",
            help="shown to agents, in the log and by status",
        )
    example = f"{EXAMPLE_PREFIX}clear payment"
    for name, text in (("clear", "clear an override before it expires"), ("restore", "")):  # `restore`: the former name
        clearing = actions.add(name, text, clear_overrides, description="Clear an override.", epilog=example)
        clearing.add_argument("override", metavar="OVERRIDE", help=join_with_or((*UPSTREAM_SERVICES, "ttl", "all")))
    actions.add("status", "show the active overrides", print_overrides, epilog=f"{EXAMPLE_PREFIX}status")


def set_degrade_override(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Stop asking an upstream service for a limited time.

    Raises SupportError for an unknown service, an empty or wrong reason, or a wrong duration.
    """
    settings = load_settings(environ)
    if arguments.service not in UPSTREAM_SERVICES:
        raise problem(
            "unknown_service", f"unknown service {arguments.service!r}: expected one of {', '.join(UPSTREAM_SERVICES)}"
        )
    if not arguments.reason.strip():
        raise problem("reason_missing", "--reason is empty: give a reason for agents and for the next on-call")
    _set_override(settings, arguments.service, None, arguments)


def set_ttl_override(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Override for a limited time how long timeline answers count as fresh.

    Raises SupportError for a wrong number of seconds, reason or duration.
    """
    from support_service.timeline import override_rules, overrides

    settings = load_settings(environ)
    text = arguments.seconds
    try:
        seconds = override_rules.check_ttl(float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) else 0.0)
    except ValueError as expected:
        raise problem("wrong_ttl", f"invalid TTL {text!r}: expected {expected}") from None
    _set_override(settings, overrides.TTL_OVERRIDE, seconds, arguments)


def _set_override(settings: "Settings", name: str, value: float | None, arguments: argparse.Namespace) -> None:
    from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
    from support_service.timeline import override_rules, overrides

    try:
        reason = override_rules.clean_reason(arguments.reason)
    except ValueError as expected:
        raise problem("wrong_reason", f"invalid --reason: expected {expected}") from None
    now, text = utc_now(), arguments.time
    try:
        until = now + override_rules.parse_override_duration(text)
    except ValueError as expected:
        raise problem("wrong_duration", f"invalid --for {text!r}: expected {expected}") from None
    override = overrides.Override(name, value, reason, until, now)

    async def store(database: "Database") -> None:
        async with unit_of_work(database, WriteOrigin(cli_principal())) as work:
            await overrides.set_override(work, override)

    run_on_database(settings, store)
    print(f"{name} is {override.effect_and_reason}. {_propagation_note()}")


def clear_overrides(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Clear overrides before they expire. Raises SupportError for an unknown override."""
    from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
    from support_service.timeline import overrides

    settings = load_settings(environ)
    names = overrides.OVERRIDE_NAMES
    if arguments.override not in (*names, "all"):
        expected = f"{', '.join(names)} or all"
        raise problem("unknown_override", f"unknown override {arguments.override!r}: expected {expected}")
    if arguments.override != "all":
        names = (arguments.override,)

    async def delete(database: "Database") -> "list[Override]":
        async with unit_of_work(database, WriteOrigin(cli_principal())) as work:
            return await overrides.clear_overrides(work, names)

    now = utc_now()
    cleared = [override.name for override in run_on_database(settings, delete) if override.until > now]
    if cleared:
        print(f"Cleared: {', '.join(sorted(cleared))}. {_propagation_note()}")
    else:
        print("Nothing to clear: the override is not active.")


def print_overrides(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the active overrides."""
    from support_service.timeline.overrides import read_overrides

    settings = load_settings(environ)
    now = utc_now()
    active = [override for override in run_on_database(settings, read_overrides) if override.until > now]
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


def _propagation_note() -> str:
    from support_service.timeline.overrides import REFRESH_INTERVAL

    return f"Every replica applies it within about {REFRESH_INTERVAL:g} s."

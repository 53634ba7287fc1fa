"""The levers of on-call on the command line: they act on the database, and every replica follows."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from support_service import quantities
from support_service.commands.base import with_database
from support_service.commands.deeds import deeds, show
from support_service.database import Database
from support_service.errors import Invalid
from support_service.settings import Settings
from support_service.telemetry.labels import SERVICES
from support_service.timeline import levers
from support_service.timeline.levers import NAMES, REFRESH_EVERY, TTL, Lever, utc_now

LONGEST = timedelta(days=7)  # that a lever may stay pulled
TTL_RANGE = (1, 86_400)  # seconds
REASON_LENGTH = 200  # characters; agents read it
FOLLOW = f"Every replica follows within about {REFRESH_EVERY:g} s."
EXAMPLES = """\
examples:
  support-service timeline degrade payment --for 30m --reason "payment-service is being restored"
  support-service timeline ttl 1800 --for 2h --reason "order-service is slow"
  support-service timeline status
  support-service timeline restore payment
  support-service timeline restore all

Levers lie in the database of SUPPORT_DATABASE_URL. Every replica follows within seconds, and each lever ends by itself.
Durations: 90s, 30m, 2h, 1d; at most 7d. An answer that was kept before `ttl` was pulled stays for no longer than it
would have: SUPPORT_TIMELINE_CACHE_TTL and SUPPORT_TIMELINE_STALE_TTL together.
"""


def add_to(commands: Any) -> None:
    """Add `timeline` to the commands."""
    what = "switch a service behind the timeline off for a while, or let its answers count as current for longer"
    add = deeds(commands, "timeline", what, examples=EXAMPLES, metavar="LEVER", given=Settings.load)
    off = add("degrade", _degrade, "stop asking a service", 'degrade payment --for 30m --reason "being restored"')
    off.add_argument("service", metavar="SERVICE", help=", ".join(SERVICES))
    ttl = add("ttl", _ttl, "set how long answers count as current", "ttl 1800 --for 2h")
    ttl.add_argument("seconds", metavar="SECONDS", help=f"{TTL_RANGE[0]} to {TTL_RANGE[1]}")
    for parser in (off, ttl):
        parser.add_argument(
            "--for", dest="time", metavar="DURATION", required=True, help="90s, 30m, 2h, 1d; at most 7d"
        )
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            required=parser is off,
            default="",
            help="shown to agents, in the log, by status",
        )
    back = add("restore", _restore, "put a lever back before its time", "restore payment")
    back.add_argument("lever", metavar="LEVER", help=f"{', '.join(NAMES)} or all")
    add("status", _status, "show what is pulled now", "status")


def _degrade(arguments: argparse.Namespace, settings: Settings) -> None:
    if arguments.service not in SERVICES:
        raise Invalid("unknown_service", f"{arguments.service!r} is no service: allowed is {', '.join(SERVICES)}")
    if not arguments.reason.strip():
        raise Invalid("reason_missing", "--reason is empty: say why, since agents and the next on-call read it")
    _pull(settings, arguments.service, None, arguments)


def _ttl(arguments: argparse.Namespace, settings: Settings) -> None:
    low, high = TTL_RANGE
    text = arguments.seconds
    seconds = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) else 0.0
    if not low <= seconds <= high:
        raise Invalid("wrong_ttl", f"{text!r} is no time to live: allowed is a number of seconds from {low} to {high}")
    _pull(settings, TTL, seconds, arguments)


def _pull(settings: Settings, name: str, value: float | None, arguments: argparse.Namespace) -> None:
    reason = " ".join(arguments.reason.split())
    if len(reason) > REASON_LENGTH or not reason.isprintable():
        raise Invalid("wrong_reason", f"--reason may have at most {REASON_LENGTH} printable characters")
    now = utc_now()
    lever = Lever(name, value, reason, now + _duration(arguments.time), now)

    async def pull(database: Database) -> None:
        async with database.transaction() as tx:
            await levers.pull(tx, lever)

    with_database(settings, pull)
    print(f"{name} is {lever.text}. {FOLLOW}")


def _restore(arguments: argparse.Namespace, settings: Settings) -> None:
    if arguments.lever not in (*NAMES, "all"):
        allowed = f"{', '.join(NAMES)} or all"
        raise Invalid("unknown_lever", f"{arguments.lever!r} is no lever: allowed is {allowed}")

    async def release(database: Database) -> list[Lever]:
        async with database.transaction() as tx:
            return await levers.release(tx, NAMES if arguments.lever == "all" else (arguments.lever,))

    now = utc_now()
    released = [lever.name for lever in with_database(settings, release) if lever.until > now]
    if released:
        print(f"Restored: {', '.join(sorted(released))}. {FOLLOW}")
    else:
        print("Nothing to restore: no such lever is pulled.")


def _status(_: argparse.Namespace, settings: Settings) -> None:
    now = utc_now()
    pulled = [lever for lever in with_database(settings, levers.read) if lever.until > now]
    if not pulled:
        print("No lever is pulled: every service is asked as configured, and SUPPORT_TIMELINE_CACHE_TTL holds.")
        return
    table = [("LEVER", "VALUE", "UNTIL", "LEFT", "SET AT", "REASON")]
    table += [
        (
            lever.name,
            "off" if lever.value is None else f"{lever.value:g} s",
            _moment(lever.until),
            f"{(lever.until - now).total_seconds():.0f} s",
            _moment(lever.set_at),
            lever.reason or "-",
        )
        for lever in pulled
    ]
    show(table)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _duration(text: str) -> timedelta:
    try:
        time = quantities.duration(text)
    except ValueError:
        time = timedelta(0)
    if not timedelta(0) < time <= LONGEST:
        raise Invalid("wrong_duration", f"--for {text!r} is no duration: allowed is 90s, 30m, 2h or 1d, at most 7d")
    return time

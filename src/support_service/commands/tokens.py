"""The `support-service token` commands: manage tokens in a file that every running service polls."""

import argparse
import re
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_table, time_cell
from support_service.core import units
from support_service.core.clock import utc_now
from support_service.core.domain.principals import CASE_SCOPED_ROLES, ROLES
from support_service.core.errors import problem
from support_service.platform.access.timings import AccessTimings

if TYPE_CHECKING:
    from support_service.platform.access.tokens import TokenEntry

PROPAGATION_NOTE = (
    f"Every service that reads the file applies it within about {AccessTimings().token_file_check_interval:g} s."
)
EXAMPLES = """\
examples:
  support-service token create lan --role agent --subject agent-lan --team returns --expires 90d
  support-service token create shop --role service
  support-service token list
  support-service token revoke lan

SUPPORT_TOKENS_FILE (default: var/tokens.json) stores only hashes of the tokens: a token is shown once,
when it is created. To rotate a token without downtime, create one under a new name, distribute it, and revoke the old
one.
"""
EXAMPLE_PREFIX = "example:\n  support-service token "


def add_to(commands: grammar.Subcommands) -> None:
    """Add `token` to the commands."""
    what = "create, list and revoke the tokens of callers, for SUPPORT_AUTH=token"
    actions = commands.group("token", what, "ACTION", epilog=EXAMPLES)
    example = f"{EXAMPLE_PREFIX}create lan --role agent --subject agent-lan"
    new = actions.add("create", "create a token and print it", create_token, epilog=example)
    new.add_argument("name", metavar="NAME", help="name of the token, for the list and logs")
    new.add_argument("--role", required=True, choices=ROLES, help="role of the caller")
    new.add_argument("--subject", metavar="ID", help="agent id or customer id of the caller, as in cases")
    new.add_argument(
        "--team", metavar="T", dest="teams", action="append", default=[], help="team of the agent; repeatable"
    )
    new.add_argument("--expires", metavar="DURATION", help="validity, such as 12h, 90d or 52w (default: unlimited)")
    actions.add("list", "list all tokens, without their secrets", list_tokens, epilog=f"{EXAMPLE_PREFIX}list")
    example = f"{EXAMPLE_PREFIX}revoke lan"
    old = actions.add("revoke", "revoke a token", revoke_token, epilog=example)
    old.add_argument("name", metavar="NAME", help="name from `token list`")


def create_token(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Create a token, store its hash and print the token.

    Raises SupportError if a valid token has the name, and for a wrong name, subject, team or duration.
    """
    from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
    from support_service.platform.settings import AccessSettings

    path = AccessSettings.load(environ).tokens_file
    _check_token_options(arguments)
    duration = None if arguments.expires is None else _parse_validity(arguments.expires)
    token = new_token()
    with edit_token_file(path) as entries:
        now = utc_now()  # with the file locked, so that the file is in the order of the times
        expires = None if duration is None else now + duration
        entry = TokenEntry(
            name=arguments.name,
            sha256=hash_token(token),
            role=arguments.role,
            subject=arguments.subject,
            teams=tuple(arguments.teams),
            created=now,
            expires=expires,
        )
        previous = next((each for each in entries if each.name == entry.name), None)
        if previous is not None:
            if _token_state(previous, now) == "valid":
                raise problem("name_taken", f"A valid token {entry.name!r} exists: choose another name, or revoke it")
            entries.remove(previous)
        entries.append(entry)
    print(token, flush=True)
    validity = "It never expires" if expires is None else f"It expires {time_cell(expires)}"
    print(f"Store the token now: it is not shown again. {validity}. {PROPAGATION_NOTE}", file=sys.stderr)


def list_tokens(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print all tokens with their state, without the secrets."""
    from support_service.platform.access.tokens import read_token_file
    from support_service.platform.settings import AccessSettings

    path = AccessSettings.load(environ).tokens_file
    now = utc_now()
    table = [("NAME", "ROLE", "SUBJECT", "TEAMS", "CREATED", "EXPIRES", "STATE")]
    table += [
        (
            entry.name,
            entry.role,
            entry.subject or "-",
            ",".join(entry.teams) or "-",
            time_cell(entry.created),
            "never" if entry.expires is None else time_cell(entry.expires),
            _token_state(entry, now),
        )
        for entry in read_token_file(path)
    ]
    print_table(table)


def revoke_token(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Revoke a token. Raises SupportError if no token has the name."""
    from support_service.platform.access.tokens import edit_token_file, read_token_file
    from support_service.platform.settings import AccessSettings

    path = AccessSettings.load(environ).tokens_file
    read_token_file(path)  # raises Unavailable for a missing file, which `edit_token_file` would create empty
    with edit_token_file(path) as entries:
        place = next((place for place, each in enumerate(entries) if each.name == arguments.name), None)
        if place is None:
            raise problem(
                "unknown_token", f"There is no token {arguments.name!r}: `support-service token list` lists all tokens"
            )
        revoked_before = entries[place].revoked
        entries[place] = entries[place].model_copy(update={"revoked": revoked_before or utc_now()})
    print(f"{'Already revoked' if revoked_before else 'Revoked'}: {arguments.name}. {PROPAGATION_NOTE}")


def _check_token_options(arguments: argparse.Namespace) -> None:
    from support_service.platform.access.tokens import CALLER_NAME_PATTERN, SUBJECT_ID_PATTERN

    if not re.fullmatch(CALLER_NAME_PATTERN, arguments.name):
        raise problem(
            "wrong_name", f"invalid name {arguments.name!r}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ @ -"
        )
    if arguments.role in CASE_SCOPED_ROLES and not arguments.subject:
        raise problem(
            "subject_missing",
            f"--subject is missing: a token of the role {arguments.role} needs the id of the {arguments.role}",
        )
    for option, value in (("--subject", arguments.subject), *(("--team", team) for team in arguments.teams)):
        if value is not None and not (re.fullmatch(SUBJECT_ID_PATTERN, value) and value.isprintable()):
            raise problem("wrong_subject", f"invalid {option} {value!r}: expected 1 to 36 printable characters")


def _parse_validity(text: str) -> timedelta:
    try:
        time = units.parse_duration(text)
    except ValueError:
        time = timedelta(0)
    if time <= timedelta(0):
        raise problem(
            "wrong_expiry", f"invalid --expires {text!r}: expected a number with a unit, such as 12h, 90d or 52w"
        )
    return time


def _token_state(entry: "TokenEntry", now: datetime) -> str:
    if entry.revoked is not None:
        return "revoked"
    return "expired" if entry.expires is not None and entry.expires <= now else "valid"

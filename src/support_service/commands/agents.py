"""The `support-service agents` commands: the directory of the people who work on cases."""

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support_service.commands import grammar
from support_service.commands.output import print_table, show_progress
from support_service.commands.runtime import cli_principal, load_settings, run_on_database
from support_service.core.errors import problem

if TYPE_CHECKING:
    from support_service.desk.agent_models import AgentChange
    from support_service.desk.agents import AgentDirectory
    from support_service.platform.database import Database

EXAMPLES = """\
examples:
  support-service agents set agent-lan --name "Lan Nguyen" --team returns --role agent
  support-service agents import people.csv
  support-service agents list
  support-service agents remove agent-lan

The first line of the CSV file names its columns: id, and any of name, teams (separated by ;) and role. An empty cell
leaves the field as it is. Every running service applies a change within 2 s.
"""
EXAMPLE_PREFIX = "example:\n  support-service agents "
COLUMNS = ("id", "name", "teams", "role")
Change = tuple[str, "AgentChange"]


def add_to(commands: grammar.Subcommands) -> None:
    """Add `agents` to the commands."""
    what = "list, change, import and remove the people who work on cases"
    actions = commands.group("agents", what, "ACTION", epilog=EXAMPLES)
    actions.add("list", "list all people", list_agents, epilog=f"{EXAMPLE_PREFIX}list")
    example = f'{EXAMPLE_PREFIX}set agent-lan --name "Lan Nguyen" --team returns'
    what = "change a person, or add the person; what is not given stays as it is"
    one = actions.add("set", what, set_agent, epilog=example)
    one.add_argument("id", metavar="ID", help="the id of the person, as in `assignedAgentId`")
    one.add_argument("--name", help="what colleagues call the person")
    one.add_argument("--team", metavar="T", dest="teams", action="append", help="team of the person; repeatable")
    one.add_argument("--role", metavar="R", help="agent, supervisor or analyst")
    what = "change or add the people of a CSV file; nothing is changed if a line is wrong"
    many = actions.add("import", what, import_agents, epilog=f"{EXAMPLE_PREFIX}import people.csv")
    many.add_argument("file", metavar="FILE", help="file in UTF-8, whose first line names its columns")
    what = "remove a person who leaves; cases and messages keep the id"
    old = actions.add("remove", what, remove_agent, epilog=f"{EXAMPLE_PREFIX}remove agent-lan")
    old.add_argument("id", metavar="ID", help="id from `agents list`")


def list_agents(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print all people."""
    from support_service.cases.known_agents import KnownAgents

    async def read(database: "Database") -> KnownAgents:
        known = KnownAgents(database)
        await known.refresh()
        return known

    people = run_on_database(load_settings(environ), read).all()
    table = [("ID", "NAME", "TEAMS", "ROLE", "AWAY")]
    table += [
        (
            each.id,
            each.display_name or "-",
            ",".join(sorted(each.teams)) or "-",
            each.role or "-",
            "yes" if each.away else "-",
        )
        for each in people
    ]
    print_table(table)


def set_agent(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Change a person, or add the person. Raises SupportError."""
    change = _parse(arguments.id, {"displayName": arguments.name, "teams": arguments.teams, "role": arguments.role})
    added = _store(environ, [change])
    print(f"{'Added' if added else 'Changed'}: {arguments.id}")


def import_agents(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Change or add the people of a CSV file. Raises SupportError before anything is changed."""
    try:
        with Path(arguments.file).open(encoding="utf-8-sig", newline="") as file:
            changes = list(_read_csv(file))
    except (OSError, UnicodeError, csv.Error) as failure:
        raise problem("file_unreadable", f"{arguments.file} can't be read: {failure}") from failure
    added = _store(environ, changes)
    print(f"{len(changes):,} people, of whom {added:,} are new")


def remove_agent(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Remove a person. Raises NotFound."""
    from support_service.platform.unit_of_work import WriteOrigin

    async def remove(database: "Database") -> None:
        await _directory(database).delete(WriteOrigin(cli_principal()), arguments.id)

    run_on_database(load_settings(environ), remove)
    print(f"Removed: {arguments.id}")


def _read_csv(lines: Any) -> Iterator[Change]:
    rows = csv.DictReader(lines, strict=True)
    named = rows.fieldnames or ()
    if "id" not in named or set(named) - set(COLUMNS):
        raise problem("wrong_columns", f"the first line must name the columns: {', '.join(COLUMNS)}")
    for row in rows:
        place = f"line {rows.line_num}: "
        if None in row or None in row.values():
            raise problem("wrong_columns", f"{place}expected {len(named)} cells, as in the first line")
        teams = [team.strip() for team in (row.get("teams") or "").split(";") if team.strip()]
        fields = {"displayName": row.get("name") or None, "teams": teams or None, "role": row.get("role") or None}
        yield _parse((row["id"] or "").strip(), fields, place)


def _parse(agent_id: str, fields: Mapping[str, Any], place: str = "") -> Change:
    from pydantic import ValidationError

    from support_service.core.errors import field_errors
    from support_service.desk.agent_models import AGENT_ID_RULE, AgentChange, is_valid_agent_id

    if not is_valid_agent_id(agent_id):
        raise problem("wrong_agent", f"{place}invalid id {agent_id[:64]!r}: it {AGENT_ID_RULE}")
    try:
        given = {name: value for name, value in fields.items() if value is not None}
        return agent_id, AgentChange.model_validate(given)
    except ValidationError as failure:
        first = field_errors(failure)[0]
        raise problem("wrong_agent", f"{place}{first.field} of {agent_id!r}: {first.message}") from None


def _store(environ: Mapping[str, str], changes: list[Change]) -> int:
    """Store changes; return how many people are new."""
    from support_service.platform.unit_of_work import WriteOrigin

    async def store(database: "Database") -> int:
        directory, origin, added = _directory(database), WriteOrigin(cli_principal()), 0
        with show_progress("agents", len(changes), "people") as bar:
            for agent_id, change in changes:
                added += (await directory.change(origin, agent_id, change))[1]
                bar.advance(1)
        return added

    return run_on_database(load_settings(environ), store)


def _directory(database: "Database") -> "AgentDirectory":
    from support_service.cases.known_agents import KnownAgents
    from support_service.desk.agents import AgentDirectory

    return AgentDirectory(database, KnownAgents(database))

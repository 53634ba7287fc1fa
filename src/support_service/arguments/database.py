"""Arguments of `migrate` and `database`."""

from support_service.arguments.subcommands import Subcommands

EXAMPLES = """\
example:
  support-service database waits

On PostgreSQL it prints the sessions that hold locks, with the age of their transactions, their `application_name` and
last statement, and the sessions that wait for them, also those of other programs. A replica of the service is named
`support-service`. The statements of other users are visible to members of `pg_read_all_stats` only; literals in them
may be personal data. The command changes nothing.
"""


def add_to(commands: Subcommands) -> None:
    """Add `migrate` and `database` to the commands."""
    commands.add("migrate", "migrate the database to the newest schema", "database:migrate")
    database = commands.group("database", "find out what the database is busy with", "ACTION", epilog=EXAMPLES)
    database.add("waits", "show which sessions hold locks that others wait for", "waits:waits", epilog=EXAMPLES)

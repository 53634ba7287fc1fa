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

CHECK_EXAMPLES = """\
examples:
  support-service database check
  support-service database check --repair

It reads every case, while the service may run, and prints the numbers: one line of JSON, or text on a terminal. A case
that another transaction changes meanwhile is left for the next run. Exit status: 0 if nothing is missing, or all of it
was repaired; 1 if something is missing.
"""


def add_to(commands: Subcommands) -> None:
    """Add `migrate` and `database` to the commands."""
    commands.add("migrate", "migrate the database to the newest schema", "database:migrate")
    database = commands.group(
        "database", "check the database, or find out what it is busy with", "ACTION", epilog=EXAMPLES
    )
    database.add("waits", "show which sessions hold locks that others wait for", "waits:waits", epilog=EXAMPLES)
    check = database.add(
        "check",
        "count the cases and messages that the search can't find",
        "database_check:check",
        epilog=CHECK_EXAMPLES,
    )
    check.add_argument("--repair", action="store_true", help="make the missing search documents")

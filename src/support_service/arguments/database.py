"""Arguments of `migrate`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add `migrate` to the commands."""
    commands.add("migrate", "migrate the database to the newest schema", "database:migrate")

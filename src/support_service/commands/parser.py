"""The parser of the whole command line."""

from support_service import __version__
from support_service.commands import (
    agents,
    attach,
    attachments,
    audit,
    backup,
    database,
    events,
    importing,
    privacy,
    probe,
    reports,
    retention,
    server,
    timeline,
    tokens,
)
from support_service.commands.grammar import USAGE_ERROR_STATUS, Parser, Subcommands


def build_parser() -> Parser:
    """Return the parser of `support-service`.

    Its result has `run`, the function of the chosen command, and `refused`, the exit status if the command is refused.
    """
    program = Parser(
        prog="support-service",
        description="Support cases with one merged timeline and attachments. Settings are environment variables, "
        "such as SUPPORT_DATABASE_URL.",
    )
    program.add_argument("--version", action="version", version=f"support-service {__version__}")
    program.set_defaults(refused=USAGE_ERROR_STATUS)
    commands = Subcommands(program, "COMMAND")
    for add in (
        server.add_serve_command,
        database.add_to,
        server.add_document_commands,
        server.add_demo_commands,
        timeline.add_to,
        attach.add_to,
        attachments.add_to,
        retention.add_to,
        events.add_to,
        audit.add_to,
        backup.add_to,
        importing.add_to,
        privacy.add_to,
        reports.add_to,
        tokens.add_to,
        agents.add_to,
        probe.add_to,
    ):
        add(commands)
    return program

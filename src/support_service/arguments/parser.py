"""The parser of the whole command line."""

from support_service import __version__
from support_service.arguments import (
    attachments,
    audit,
    database,
    demo,
    documents,
    events,
    importing,
    privacy,
    probe,
    server,
    timeline,
    tokens,
)
from support_service.arguments.subcommands import USAGE_ERROR_STATUS, Parser, Subcommands


def parser() -> Parser:
    """Return the parser of `support-service`.

    Its result has `run`, the function of the chosen command, and `refused`, the exit status if the command is refused.
    """
    program = Parser(
        prog="support-service",
        description="Support cases with one merged timeline and attachments. Settings are environment variables, which "
        "the README lists.",
    )
    program.add_argument("--version", action="version", version=f"support-service {__version__}")
    program.set_defaults(refused=USAGE_ERROR_STATUS)
    commands = Subcommands(program, "COMMAND")
    for noun in (
        server,
        database,
        documents,
        demo,
        timeline,
        attachments,
        events,
        audit,
        importing,
        privacy,
        tokens,
        probe,
    ):
        noun.add_to(commands)
    return program

"""Arguments of `import`."""

from pathlib import Path

from support_service.arguments.subcommands import Subcommands

FORMATS = ("zammad", "chatwoot", "dataflow")


def add_to(commands: Subcommands) -> None:
    """Add this command."""
    what = "import cases from another system, without events; exit status 1 if some were refused"
    command = commands.add("import", what, "importing:import_cases")
    command.add_argument(
        "file",
        metavar="FILE",
        help="JSON Lines, one case per line; - reads the standard input. With --from dataflow: the URL of the database",
    )
    command.add_argument(
        "--from",
        dest="system",
        choices=FORMATS,
        help="the system that exported the cases (default: none, our own form)",
    )
    command.add_argument(
        "--files",
        type=Path,
        metavar="DIRECTORY",
        help="the attachment directory of the earlier service, with --from dataflow; otherwise files are read below "
        "the folder of FILE",
    )
    command.add_argument(
        "--refused",
        dest="refused_cases",  # `refused` is the exit status of a refused command
        type=Path,
        metavar="FILE",
        help="file for refused cases and their reasons (default: FILE.refused.jsonl)",
    )
    command.add_argument(
        "--skip-missing-files", action="store_true", help="import a case without its files that do not exist"
    )
    command.add_argument("--dry-run", action="store_true", help="check every case, import nothing")

"""The `support-service import` command: cases from a file, or from the database of the earlier service."""

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from support_service.commands import grammar
from support_service.commands.output import show_progress
from support_service.commands.runtime import cli_principal, load_migrated_settings, run_coroutine
from support_service.core.errors import problem

if TYPE_CHECKING:
    from support_service.importing.entries import Entries
    from support_service.importing.files import ImportedFiles
    from support_service.importing.imported_case import Mapper
    from support_service.importing.importer import ImportTotals, RefusalFile
    from support_service.platform.settings import Settings

FORMATS = ("zammad", "chatwoot", "dataflow")
REFUSED_STATUS = 1  # exit status if cases were refused
STANDARD_INPUT = "-"


def add_to(commands: grammar.Subcommands) -> None:
    """Add this command."""
    what = "import cases from another system, without events; exit status 1 if some were refused"
    command = commands.add("import", what, import_cases)
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


@dataclass(frozen=True, slots=True)
class _ImportSource:
    """What is imported, with the folder of its files, and its total for the progress: None if unknown."""

    entries: "Entries"
    folder: Path
    total: int | None
    unit: str = "B"


def import_cases(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Import cases and print one line of JSON with the totals. Exit with status 1 if some were refused.

    Raises SupportError for arguments that do not fit together, and the errors of the file, the databases and the
    storage.
    """
    if arguments.files is not None and arguments.system != "dataflow":
        raise problem(
            "wrong_arguments", "--files is for --from dataflow: other files are read below the folder of FILE"
        )
    refused = arguments.refused_cases
    if refused is not None and refused.exists() and Path(arguments.file).exists() and refused.samefile(arguments.file):
        raise problem("wrong_arguments", "--refused names FILE itself, which it would replace")
    sys.exit(run_coroutine(_import_from_source(load_migrated_settings(environ), arguments)))


async def _import_from_source(settings: "Settings", arguments: argparse.Namespace) -> int:
    from support_service.attachments.storage import configured_storages
    from support_service.importing.files import ImportedFiles
    from support_service.importing.importer import Importer, RefusalFile
    from support_service.platform.database.shared import open_database
    from support_service.platform.unit_of_work import WriteOrigin

    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(_open_source(arguments))
        database = await stack.enter_async_context(open_database(settings.database, pool_size=4))
        storage = next(iter(configured_storages(settings.attachments, settings.s3).values()))
        stack.push_async_callback(storage.close)
        await storage.open()
        files = ImportedFiles(
            opened.folder,
            storage,
            settings.attachments,
            public_url=settings.server.url_prefix,
            skip_missing=arguments.skip_missing_files,
        )
        refusals = stack.enter_context(RefusalFile(arguments.refused_cases or _refusal_path(arguments)))
        importer = Importer(
            database,
            files,
            WriteOrigin(cli_principal()),
            synthetic_channels=settings.cases.synthetic_channels,
            dry_run=arguments.dry_run,
            refuse=lambda entry, failure: refusals.add(entry.place, entry.document, failure),
        )
        try:
            with show_progress("import", opened.total, opened.unit) as bar:
                await importer.run(opened.entries, _mapper_of_system(arguments.system), bar.advance)
        finally:
            print(json.dumps(_summary(importer.totals, files, refusals, dry_run=arguments.dry_run)), flush=True)
    return REFUSED_STATUS if importer.totals.refused else 0


def _mapper_of_system(system: str | None) -> "Mapper":
    from support_service.importing import chatwoot, dataflow, zammad
    from support_service.importing.imported_case import keep_as_it_is

    mappers: dict[str | None, Mapper] = {
        None: keep_as_it_is,
        "zammad": zammad.map_ticket,
        "chatwoot": chatwoot.map_conversation,
        "dataflow": dataflow.map_ticket,
    }
    return mappers[system]


def _summary(
    totals: "ImportTotals", files: "ImportedFiles", refusals: "RefusalFile", *, dry_run: bool
) -> dict[str, object]:
    """Return the last line of the command: what was done, also before an error."""
    return {
        **({"dryRun": True} if dry_run else {}),
        "read": totals.read,
        "imported": totals.imported,
        "known": totals.already_stored,
        "refused": totals.refused,
        **({"missingFiles": files.missing} if files.missing else {}),
        **({"refusedFile": str(refusals.path)} if refusals.count else {}),
    }


def _refusal_path(arguments: argparse.Namespace) -> Path:
    """Return the default file for refused cases: beside FILE, or in the working directory."""
    if arguments.system == "dataflow" or arguments.file == STANDARD_INPUT:
        return Path(f"{arguments.system or 'import'}.refused.jsonl")
    return Path(f"{arguments.file}.refused.jsonl")


@asynccontextmanager
async def _open_source(arguments: argparse.Namespace) -> AsyncIterator[_ImportSource]:
    from support_service.importing import dataflow

    if arguments.system == "dataflow":
        async with dataflow.open_earlier_database(_database_url(arguments.file)) as earlier:
            number = await dataflow.count_files(earlier)
            if number and arguments.files is None:
                raise problem(
                    "wrong_arguments",
                    f"The earlier service has {number} files: name its attachment directory with --files",
                )
            folder = arguments.files or Path()
            ids = await dataflow.read_ticket_ids(earlier)
            yield _ImportSource(dataflow.read_tickets(earlier, ids, folder), folder, len(ids), " cases")
    elif arguments.file == STANDARD_INPUT:
        yield _ImportSource(_read_entries(sys.stdin.buffer, arguments.system), Path(), None)
    else:
        with Path(arguments.file).open("rb") as file:  # noqa: ASYNC230 - nothing else runs on this loop
            size = os.fstat(file.fileno()).st_size
            yield _ImportSource(_read_entries(file, arguments.system), Path(arguments.file).parent, size)


def _read_entries(file: BinaryIO, system: str | None) -> "Entries":
    """Return the cases of a file: JSON Lines, or one list of another system."""
    from support_service.importing.entries import read_array, read_lines

    start = file.peek(1)[:1] if system else b""  # type: ignore[attr-defined]  # a buffered reader
    return read_array(file) if start == b"[" else read_lines(file)


def _database_url(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from support_service.platform.settings.value_types import DatabaseUrl

    try:
        return TypeAdapter(DatabaseUrl).validate_python(text)
    except ValidationError:  # its text would show the password
        raise problem(
            "wrong_arguments",
            "FILE is not the URL of a database: expected sqlite:///PATH or postgresql://USER@HOST/NAME",
        ) from None

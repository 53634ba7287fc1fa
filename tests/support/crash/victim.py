"""A service process that kills itself before a chosen line of its own code, without support in that code.

A point is the n-th execution of a line in the modules that store files. Every step that touches a file, an object or a
row is on a line of its own, so points lie between all steps. The short form of a test names its points by the text of
the line. The long form runs the command once to its end, and spreads its points over all lines that were executed.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import support_service
from support_service import cli, server
from support_service.commands import parser
from support_service.importing import archive, importer
from support_service.privacy import retention
from tests.support.constants import set_constants

PACKAGE = Path(support_service.__file__).parent
# Imported before tracing starts, so that definitions are not points.
IMPORTED = (archive, importer, retention, parser, server)


def modules(*patterns):
    """Return the paths of modules of the service. A pattern without any raises ValueError."""
    found = {pattern: [str(path) for path in PACKAGE.glob(pattern)] for pattern in patterns}
    if without := [pattern for pattern, paths in found.items() if not paths]:
        raise ValueError(f"no module of the service is {', '.join(without)}")
    return {path for paths in found.values() for path in paths}


WATCHED = modules(
    "attachments/**/*.py",
    "cases/case_files.py",
    "cases/sql/attachment_rows.py",
    "platform/database/sqlite/engine.py",
    "api/attachments.py",
    "guard/uploads.py",
)


def before(module, text):
    """Return the point before the first execution of the one line of a module that begins with a text."""
    lines = (PACKAGE / module).read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.lstrip().startswith(text))
    return f"{Path(module).name}:{number}", 1


def run(arguments, variables, folder, point, record, watched=WATCHED):
    """Run a command in a folder, either to a point, or to its end; then write the executed points to `record`."""
    os.chdir(folder)
    os.environ.update(variables)
    set_constants()
    log = os.open(folder / "victim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    executed: dict[str, int] = {}

    def line(frame, event, _):
        if event == "line":
            here = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            executed[here] = executed.get(here, 0) + 1
            if point == (here, executed[here]):
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame, *_):
        return line if frame.f_code.co_filename in watched else None

    sys.argv = ["support-service", *arguments]
    threading.settrace(call)
    sys.settrace(call)
    try:
        cli.main()
    finally:
        sys.settrace(None)
        threading.settrace(None)
        if record is not None:
            record.write_text(json.dumps(executed))

"""A process of the service that kills itself before a chosen line of its own code, without a word in that code for it.

A line of the rooms that keep files, met for the n-th time, is a point. Every step that touches a file, an object or a
row stands on a line of its own, so that the points lie between all of them.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import support_service
from support_service import cli
from support_service.commands import attachments, offload, server

HOUSE = Path(support_service.__file__).parent
# Imported here, so that lines which only define something are not points.
COMMANDS = (attachments, offload, server)
WATCHED = {
    *(str(path) for path in (HOUSE / "attachments").rglob("*.py")),
    str(HOUSE / "database" / "sqlite.py"),
    str(HOUSE / "api" / "attachments.py"),
    str(HOUSE / "http" / "uploads.py"),
}


def run(arguments, variables, folder, point, record, watched=WATCHED):
    """Run a command in a folder: to its end, with the points that it met written to `record`, or to a point."""
    os.chdir(folder)
    os.environ.update(variables)
    silence = os.open(folder / "victim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    met: dict[str, int] = {}

    def line(frame, event, _):
        if event == "line":
            here = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            met[here] = met.get(here, 0) + 1
            if point == (here, met[here]):
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
            record.write_text(json.dumps(met))

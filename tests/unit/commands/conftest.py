"""Commands in the test's own process."""

import logging
import os
import signal
import sys

import pytest

from support_service import cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; return its status, output and errors."""

    def command(*arguments, **variables):
        for name in [name for name in os.environ if name.startswith(("SUPPORT_", "OTEL_"))]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["support-service", *arguments])
        monkeypatch.chdir(tmp_path)
        status, handlers, level = 0, root.handlers[:], root.level
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            root.handlers[:] = handlers  # the commands log to their standard error
            root.setLevel(level)
        out, errors = capsys.readouterr()
        return status, out, errors

    handler, root = signal.getsignal(signal.SIGINT), logging.getLogger()
    yield command
    signal.signal(signal.SIGINT, handler)  # the commands let Ctrl-C end the process, but pytest must report first

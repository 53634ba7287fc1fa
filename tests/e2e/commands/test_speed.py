"""`--help` and `--version` are fast, because they import nothing that a command needs."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.command_list import EVERY_COMMAND
from tests.support.process import environment

pytestmark = pytest.mark.usefixtures("processes")

LIMIT = 4.0  # times the CPU time of Python with a few standard modules
BARE = ("-c", "import argparse, json, asyncio")
RUNS = 7
MODULES = """
import json, sys
before = set(sys.modules)
from support_service.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def cpu_time(*arguments):
    """Return the CPU time of one run of Python, in seconds."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment(), file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("arguments", ["--version", "--help", "events webhooks replay --help"])
def test_help_and_version_take_little_cpu_time(arguments):
    """The limit is relative to bare Python. Runs of both alternate, and the fastest run of each counts."""
    command = ("-m", "support_service", *arguments.split())
    bare, full = zip(*((cpu_time(*BARE), cpu_time(*command)) for _ in range(RUNS)), strict=True)
    assert min(full) <= LIMIT * min(bare)


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_help_imports_only_the_standard_library_and_the_grammar(command):
    """The help of a command imports no third-party package, no event loop and no command."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *command.split(), "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith(f"usage: support-service {command}".rstrip())
    imported = set(json.loads(done.stderr))
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"support_service"}
    assert not imported & {"asyncio", "ssl", "sqlite3", "importlib.metadata"}
    assert not {name for name in imported if name.startswith("support_service.commands")}

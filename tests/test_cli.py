"""The command line: each command has its help, prints what it says, and refuses with one line.

The commands run in this process; test_server.py and test_demo.py run them as processes of their own.
"""

import json
import os
import sys

import pytest

from support_service import __version__, cli
from support_service.web.routes import ROUTES
from tests.process import running


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; gives its status, its output and its errors."""

    def command(*arguments, **variables):
        for name in [name for name in os.environ if name.startswith(("SUPPORT_", "OTEL_"))]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["support-service", *arguments])
        monkeypatch.chdir(tmp_path)
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, errors = capsys.readouterr()
        return status, out, errors

    return command


@pytest.mark.parametrize("command", ["", "serve", "demo", "migrate", "openapi"])
def test_help(run, command):
    """`--help` says what a command does."""
    status, out, errors = run(*filter(None, [command]), "--help")
    assert (status, errors) == (0, "")
    assert out.startswith(f"usage: support-service {command}".rstrip())
    if not command:
        assert all(name in out for name in ("serve", "demo", "migrate", "openapi"))


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--fast"], ["demo", "--port", "eighty"]])
def test_a_command_that_does_not_exist(run, arguments):
    """An unknown command or option, or none at all, is refused with the usage and status 2."""
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: support-service")


def test_openapi(run):
    """`openapi` prints valid JSON that has every route."""
    status, out, errors = run("openapi")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_migrate(run, tmp_path):
    """`migrate` makes the database and its folder, and may be run again."""
    for _ in range(2):
        status, out, _ = run("migrate", SUPPORT_DATABASE_URL="sqlite:///data/cases.db")
        assert status == 0
        assert "newest schema" in out
    assert (tmp_path / "data" / "cases.db").exists()


@pytest.mark.parametrize("command", ["serve", "migrate", "demo"])
def test_a_wrong_setting(run, command):
    """A wrong setting stops any command that reads it with one line and status 2."""
    status, out, errors = run(command, SUPPORT_DATABASE_URL="mysql://db")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: SUPPORT_DATABASE_URL='mysql://db': allowed is ")


def test_a_database_out_of_reach(run):
    """A database that can't be reached stops `migrate` with one line and status 2."""
    status, _, errors = run("migrate", SUPPORT_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("support-service: The database can't be used: ")


async def test_version(tmp_path):
    """`python -m support_service` is the same command; `--version` says which release it is."""
    async with running("--version", cwd=tmp_path) as command:
        assert await command.ended() == (0, f"support-service {__version__}\n", "")

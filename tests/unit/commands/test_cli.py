"""The command line: each command has its help, prints what it says, and refuses with one line.

The commands run in this process; test_server.py, test_demo.py and commands/ run them as processes of their own.
"""

import json
import os
import signal
import sys
from importlib import metadata

import pytest

from support_service import __version__, cli
from support_service.api.routes import ROUTES
from support_service.commands import documents
from support_service.database import migrate
from support_service.timeline.overrides import OVERRIDE_NAMES
from tests.support.process import START_TIMEOUT, running

COMMANDS = ["serve", "demo", "migrate", "openapi", "timeline", "attach", "offload", "sweep", "scrub", "retention"]
WRONG = [
    ["attach", "case"],
    ["offload", "--older-than", "30"],
    ["offload", "--rate", "fast"],
    ["offload", "--limit", "0"],
    ["offload", "--limit", "9" * 20],
    ["scrub", "--sample", "2"],
    ["retention"],
    ["retention", "--older-than", "1d", "--status", "open"],
    ["attach", "case", "file", "--url", "foo"],
    ["demo", "traffic", "--base-url", "foo"],
    ["demo", "traffic", "--base-url", "http://a..b", "--duration", "0.1"],
    ["demo", "traffic", "--rate", "0"],
]


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

    handler = signal.getsignal(signal.SIGINT)
    yield command
    signal.signal(signal.SIGINT, handler)  # the commands end this process on Ctrl-C, and pytest has more to say


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(run, command):
    """`--help` says what a command does."""
    status, out, errors = run(*command.split(), "--help")
    assert (status, errors) == (0, "")
    assert out.startswith(f"usage: support-service {command}".rstrip())
    if not command:
        assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--fast"], ["demo", "--port", "eighty"], *WRONG])
def test_a_command_that_does_not_exist(run, arguments):
    """An unknown command or option, or none at all, is refused with the usage and status 2."""
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: support-service")
    assert "invalid _" not in errors


def test_openapi(run):
    """`openapi` prints valid JSON that has every route."""
    status, out, errors = run("openapi")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_openapi_of_a_closed_service(run):
    """`openapi` asks for a token where SUPPORT_AUTH does, as the served document would."""
    assert "security" not in json.loads(run("openapi")[1])
    _, out, _ = run("openapi", SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE="tokens")
    assert json.loads(out)["security"] == [{"bearer": []}]


def test_a_description_with_gaps(run, monkeypatch):
    """`openapi --check` says nothing of a whole description, and names what another lacks."""
    assert run("openapi", "--check") == (0, "", "")
    monkeypatch.setattr(documents, "gaps", lambda _: ["GET /a: has no summary", "GET /b: has no tags"])
    assert run("openapi", "--check") == ("GET /a: has no summary\nGET /b: has no tags", "", "")


def test_asyncapi(run):
    """`asyncapi` prints valid JSON that has events of both directions."""
    status, out, errors = run("asyncapi")
    assert (status, errors) == (0, "")
    channels = json.loads(out)["channels"]
    assert set(channels) == {"out", "webhooks", "in", "http"}
    assert (channels["out"]["address"], channels["in"]["address"]) == ("support.events", "support.inbound")
    _, out, _ = run("asyncapi", SUPPORT_EVENTS_STREAM="told", SUPPORT_EVENTS_INBOUND_STREAM="heard")
    channels = json.loads(out)["channels"]
    assert (channels["out"]["address"], channels["in"]["address"]) == ("told", "heard")


def test_migrate(run, tmp_path):
    """`migrate` makes the database and its folder, and may be run again."""
    for _ in range(2):
        status, out, _ = run("migrate", SUPPORT_DATABASE_URL="sqlite:///data/cases.db")
        assert status == 0
        assert "newest schema" in out
    assert (tmp_path / "data" / "cases.db").exists()


@pytest.mark.parametrize("command", ["serve", "migrate", "demo", "offload", "sweep", "scrub"])
def test_a_wrong_setting(run, command):
    """A wrong setting stops any command that reads it with one line and status 2."""
    status, out, errors = run(command, SUPPORT_DATABASE_URL="mysql://db")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: SUPPORT_DATABASE_URL='mysql://db': expected ")


@pytest.mark.parametrize("command", ["sweep", "export", "audit verify", "timeline status", "events webhooks list"])
def test_a_schema_that_is_older(run, tmp_path, command):
    """A command on a database that lacks migrations says what to run first."""
    (tmp_path / "old.db").touch()
    status, out, errors = run(*command.split(), SUPPORT_DATABASE_URL="sqlite:///old.db")
    assert (status, out) == (2, "")
    lacking = "The database at SUPPORT_DATABASE_URL lacks migrations: run `support-service migrate` first"
    assert errors == f"support-service: {lacking}\n"


def test_a_path_that_no_system_takes(run):
    """What the system refuses is told in one line too."""
    status, _, errors = run("sweep", SUPPORT_DATABASE_URL=f"sqlite:///{'a' * 5000}")
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("support-service: [Errno 36] File name too long")


def test_a_token_of_two_lines(run):
    """A token that no header can have is refused before anything is asked, and not shown."""
    status, _, errors = run("attach", "case", "file", SUPPORT_TOKEN="one\ntwo\n")
    assert (status, errors) == (
        2,
        "support-service: SUPPORT_TOKEN=***: expected a token without spaces and line breaks\n",
    )


def test_a_database_out_of_reach(run):
    """A database that can't be reached stops `migrate` with one line and status 2."""
    status, _, errors = run("migrate", SUPPORT_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("support-service: The database can't be used: ")


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (
            ("degrade", "cart", "--for", "1m", "--reason", "x"),
            "unknown service 'cart': expected one of order, payment, ful",
        ),
        (("degrade", "order", "--for", "1m", "--reason", " "), "--reason is empty"),
        (
            ("degrade", "order", "--for", "1m", "--reason", "x" * 201),
            "invalid --reason: expected at most 200 printable",
        ),
        (
            ("degrade", "order", "--for", "1m", "--reason", "\x1b[31m"),
            "invalid --reason: expected at most 200 printable",
        ),
        (
            ("degrade", "order", "--for", "soon", "--reason", "x"),
            "invalid --for 'soon': expected a number with a unit, such as 90s, 30m",
        ),
        (("degrade", "order", "--for", "0s", "--reason", "x"), "invalid --for '0s': expected "),
        (("degrade", "order", "--for=-5m", "--reason", "x"), "invalid --for '-5m': expected "),
        (("degrade", "order", "--for", "8d", "--reason", "x"), "invalid --for '8d': expected "),
        (("ttl", "900", "--for", "169h"), "invalid --for '169h': expected "),
        (("ttl", "0", "--for", "1m"), "invalid TTL '0': expected a number of seconds from 1 to 86400"),
        (("ttl", "86401", "--for", "1m"), "invalid TTL '86401': expected "),
        (("ttl", "nan", "--for", "1m"), "invalid TTL 'nan': expected "),
        (("clear", "cart"), f"unknown override 'cart': expected {', '.join(OVERRIDE_NAMES)} or all"),
    ],
)
def test_a_wrong_argument_of_an_override(run, arguments, refusal):
    """A wrong argument is refused with one line that says what is expected, and sets nothing."""
    status, out, errors = run("timeline", *arguments)
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"support-service: {refusal}")


@pytest.mark.parametrize("arguments", [(), ("degrade", "order"), ("degrade", "order", "--for", "1m"), ("ttl", "900")])
def test_a_missing_argument_of_an_override(run, arguments):
    """An override without an end, or a service switched off without a reason, is refused with the usage."""
    status, out, errors = run("timeline", *arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: support-service timeline")


@pytest.mark.parametrize("arguments", [("--help",), ("degrade", "--help"), ("ttl", "--help"), ("clear", "--help")])
def test_the_help_of_an_override_has_an_example(run, arguments):
    """Each command's help shows a line to type."""
    status, out, errors = run("timeline", *arguments)
    assert (status, errors) == (0, "")
    assert "\n  support-service timeline " in out


@pytest.mark.parametrize(
    "command", ["openapi", "migrate", "sweep", "demo --port 0", "probe --base-url http://127.0.0.1:1"]
)
@pytest.mark.usefixtures("processes")
async def test_output_that_nobody_takes(tmp_path, command):
    """A command whose reader has gone, as of `export | head`, ends quietly, with the status that shells give it."""
    migrate.upgrade(f"sqlite:///{tmp_path}/var/support.db")
    reader, writer = os.pipe()
    os.close(reader)
    async with running(*command.split(), cwd=tmp_path, output=writer, forked=False) as process:
        os.close(writer)
        assert await process.wait_for_exit(START_TIMEOUT) == (141, "", "")


@pytest.mark.usefixtures("processes")
async def test_output_that_finds_no_room(tmp_path):
    """A command whose output can't be kept, as on a full disk, says so in one line, with status 2."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with running("asyncapi", cwd=tmp_path, output=full, forked=False) as process:
        os.close(full)
        assert await process.wait_for_exit(START_TIMEOUT) == (
            2,
            "",
            "support-service: [Errno 28] No space left on device\n",
        )


def test_the_package_has_the_version_of_the_source():
    """The version stands in one place, which the package is built from."""
    assert metadata.version("support-service") == __version__


@pytest.mark.usefixtures("processes")
async def test_version(tmp_path):
    """`python -m support_service` is the same command; `--version` says which release it is."""
    async with running("--version", cwd=tmp_path, forked=False) as command:
        assert await command.wait_for_exit() == (0, f"support-service {__version__}\n", "")

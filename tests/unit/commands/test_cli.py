"""The command line: each command has its help, prints its result, and reports an error in one line."""

import json
import re
import sys
from importlib import metadata

import pytest

from support_service import __version__
from support_service.api.openapi import document
from support_service.api.routes import ROUTES
from support_service.client import ClientTimings
from support_service.commands.attach import attach
from support_service.commands.parser import build_parser
from support_service.platform.database import migrate
from tests.support.each import each_row

COMMANDS = ["serve", "demo", "migrate", "openapi", "timeline", "attach", "offload", "sweep", "scrub", "retention"]
TOKEN_COMMANDS = ["token", "token create", "token list", "token revoke"]
INVALID_ARGUMENTS = [
    ["attach"],
    ["attach", "", "file"],
    ["offload", "--older-than", "30"],
    ["offload", "--rate", "fast"],
    ["offload", "--limit", "0"],
    ["offload", "--limit", "9" * 20],
    ["scrub", "--sample", "2"],
    ["retention"],
    ["retention", "--older-than", "1d", "--status", "open"],
    ["attach", "case", "file", "--base-url", "foo://host"],
    ["demo", "traffic", "--base-url", "ftp://host"],
    ["demo", "traffic", "--base-url", "http://a..b", "--duration", "0.1"],
    ["demo", "traffic", "--rate", "0"],
]


@each_row("command", ["", *COMMANDS])
def test_help_names_the_command_and_its_subcommands(run, command):
    status, out, errors = run(*command.split(), "--help")
    assert (status, errors) == (0, "")
    assert out.startswith(f"usage: support-service {command}".rstrip())
    if not command:
        assert all(name in out for name in COMMANDS)


@each_row(
    "arguments",
    [[], ["fly"], ["serve", "--fast"], ["demo", "--port", "eighty"], ["demo", "--port", "65536"], *INVALID_ARGUMENTS],
)
def test_invalid_usage_is_refused(run, arguments):
    """An unknown command, an invalid option or no command prints the usage, with status 2."""
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: support-service")
    assert "invalid _" not in errors


def test_openapi_prints_every_route(run):
    status, out, errors = run("openapi")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_openapi_requires_a_token_when_authentication_is_on(run):
    """The printed document equals the document that the service would serve."""
    opened = json.loads(run("openapi")[1])
    _, out, _ = run("openapi", SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE="tokens", SUPPORT_PUBLIC_URL="https://a.test")
    closed = json.loads(out)
    security = [document["paths"]["/support/cases"]["get"]["security"] for document in (opened, closed)]
    assert security == [[], [{"bearer": []}]]
    assert closed["servers"] == [{"url": "https://a.test"}]


def test_openapi_check_names_gaps(run, monkeypatch):
    """A complete document prints nothing."""
    assert run("openapi", "--check") == (0, "", "")
    monkeypatch.setattr(document, "find_gaps", lambda _: ["GET /a: has no summary", "GET /b: has no tags"])
    assert run("openapi", "--check") == ("GET /a: has no summary\nGET /b: has no tags", "", "")


def test_asyncapi_prints_events_of_both_directions(run):
    """The names of the streams come from the settings."""
    status, out, errors = run("asyncapi")
    assert (status, errors) == (0, "")
    channels = json.loads(out)["channels"]
    assert set(channels) == {"out", "webhooks", "in", "http"}
    assert (channels["out"]["address"], channels["in"]["address"]) == ("support.events", "support.inbound")
    _, out, _ = run("asyncapi", SUPPORT_EVENTS_STREAM="told", SUPPORT_EVENTS_INBOUND_STREAM="heard")
    channels = json.loads(out)["channels"]
    assert (channels["out"]["address"], channels["in"]["address"]) == ("told", "heard")


def test_migrate_creates_the_database_and_may_be_repeated(run, tmp_path):
    """The folder of the database is created too."""
    for _ in range(2):
        status, out, _ = run("migrate", SUPPORT_DATABASE_URL="sqlite:///data/cases.db")
        assert status == 0
        assert "newest schema" in out
    assert (tmp_path / "data" / "cases.db").exists()


@each_row(
    "command", ["sweep", "export", "audit verify", "timeline status", "timeline clear all", "events webhooks list"]
)
def test_command_on_an_outdated_schema_says_to_migrate(run, tmp_path, command):
    """The error is one line, with status 2."""
    (tmp_path / "old.db").touch()
    status, out, errors = run(*command.split(), SUPPORT_DATABASE_URL="sqlite:///old.db")
    assert (status, out) == (2, "")
    message = "The database at SUPPORT_DATABASE_URL lacks migrations: run `support-service migrate` first"
    assert errors == f"support-service: {message}\n"


def test_error_of_the_operating_system_is_one_line(run):
    status, _, errors = run("sweep", SUPPORT_DATABASE_URL=f"sqlite:///{'a' * 5000}")
    assert status == 2
    (line,) = errors.splitlines()
    # Since Python 3.14, a path that is too long only does not exist.
    expected = "There is no database at aaa" if sys.version_info >= (3, 14) else "[Errno 36] File name too long"
    assert line.startswith(f"support-service: {expected}")


def test_an_empty_case_id_is_named(run, tmp_path):
    """Whether `$CASE` is quoted or not, the message is about the case id, not about the file."""
    (tmp_path / "note.txt").write_text("hello")
    status, _, errors = run("attach", "", "note.txt")
    assert status == 2
    assert "argument CASE: invalid id '': expected the id of a case, but the case id is empty: check the " in errors
    for files in (["note.txt"], ["note.txt", "note.txt"]):
        status, _, errors = run("attach", *files)
        assert (status, errors) == (
            2,
            "support-service: the case id is empty or missing: 'note.txt' is a file, but CASE is the id of a case\n",
        )
    status, _, errors = run("attach", "c-1")
    assert (status, errors) == (2, "support-service: no FILE is given to upload to the case 'c-1'\n")


@each_row(
    "arguments",
    ["--internal c-1 a b", "c-1 --internal a b", "c-1 a --internal b", "c-1 a b --internal", "c-1 --internal -- a b"],
)
def test_attach_accepts_its_options_at_any_place(run, arguments):
    """Between CASE and FILE too. An unknown option is refused at each place."""
    found = build_parser().parse_args(["attach", *arguments.split()])
    assert (found.case, list(map(str, found.files)), found.internal) == ("c-1", ["a", "b"], True)
    status, _, errors = run("attach", *arguments.replace("--internal", "--secret").split())
    assert status == 2
    assert "unrecognized arguments: --secret" in errors


def test_attach_names_the_address_and_the_cause(tmp_path, capsys):
    """A URL needs no scheme."""
    (tmp_path / "note.txt").write_text("hello")
    arguments = build_parser().parse_args(["attach", "c-1", str(tmp_path / "note.txt"), "--base-url", "127.0.0.1:1"])
    with pytest.raises(SystemExit) as end:
        attach(arguments, {}, ClientTimings(attempts=1))
    assert end.value.code == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors == f"support-service: {tmp_path / 'note.txt'}: can't connect to 127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:1", "can't connect to 127.0.0.1:1: Connection refused"),
        ("http://nowhere.invalid:8000", "can't connect to nowhere.invalid:8000: "),
    ],
)
def test_probe_says_why_it_could_not_run(run, url, reason):
    """The report has the address and the cause, and no name of an exception."""
    status, out, errors = run("probe", "--base-url", url)
    assert (status, errors) == (3, "")
    assert json.loads(out)["reason"].startswith(reason)
    assert "Error" not in out


def test_probe_refuses_what_is_no_url(run):
    for url in ("", "ftp://host", "http://", "http://a b"):
        status, out, errors = run("probe", "--base-url", url)
        assert (status, out) == (3, "")
        assert "argument --base-url: invalid URL" in errors


def test_traffic_without_any_answer_is_an_error(run):
    status, out, errors = run("demo", "traffic", "--base-url", "127.0.0.1:1", "--duration", "0.1", "--rate", "1000")
    assert status == 2
    assert "no answer; last failure: can't connect to 127.0.0.1:1: Connection refused" in out
    assert errors == "support-service: http://127.0.0.1:1 gave no answer at all: check --base-url\n"


@pytest.mark.parametrize("command", ["timeline status", "audit verify"])
def test_an_unreachable_database_is_tried_once(run, command, monkeypatch):
    """A second connection, to ask for the schema, would take as long as the first."""
    monkeypatch.setattr(migrate, "read_schema_status", lambda _: pytest.fail("connected again"))
    assert run(*command.split(), SUPPORT_DATABASE_URL="postgresql://u@127.0.0.1:1/cases")[0] == 2


@each_row("arguments", ["", "degrade order", "degrade order --for 1m", "ttl 900"])
def test_override_needs_an_end_and_a_reason(run, arguments):
    """A missing option prints the usage, with status 2."""
    status, out, errors = run("timeline", *arguments.split())
    assert (status, out, errors.startswith("usage: support-service timeline")) == (2, "", True)


@each_row("command", ["timeline", *(f"timeline {each}" for each in ("degrade", "ttl", "clear")), *TOKEN_COMMANDS])
def test_help_has_an_example(run, command):
    status, out, errors = run(*command.split(), "--help")
    assert (status, errors) == (0, "")
    assert re.search(rf"\n  support-service {command.partition(' ')[0]} ", out)


def test_package_has_the_version_of_the_source():
    """The package is built from the version in the source."""
    assert metadata.version("support-service") == __version__

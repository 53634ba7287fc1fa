"""A command that can't run says why in one line, with status 2, and changes nothing."""

import json
import shlex
import socket

from support_service.timeline.overrides import OVERRIDE_NAMES
from tests.support.each import each_row

TOKENS = {"SUPPORT_TOKENS_FILE": "tokens.json"}
CREATE = "token create x --role service"
OTLP = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}
NO_DATABASE = "There is no database at var/support.db: check SUPPORT_DATABASE_URL, or run `support-service migrate`"

ON_DATABASE = ("export", "erase customer zaphod --yes", "sweep", "offload", "audit verify", "timeline status")
ON_DATABASE += ("events webhooks list", "events webhooks replay")
ANY = ("serve", "migrate", "offload", "sweep", "scrub")
MYSQL = {"SUPPORT_DATABASE_URL": "mysql://db"}
UNKNOWN_HOST = {"SUPPORT_DATABASE_URL": "postgresql://u:secret@nowhere.invalid/cases"}
UNKNOWN = "The database at nowhere.invalid (SUPPORT_DATABASE_URL) can't be used: "
REFUSED_CONNECTION = "The database at 127.0.0.1:1 (SUPPORT_DATABASE_URL) can't be used: Connection refused"
OVERRIDES = {
    "degrade cart --for 1m --reason x": "unknown service 'cart': expected one of order, payment, ful",
    "degrade order --for 1m --reason ' '": "--reason is empty",
    f"degrade order --for 1m --reason {'x' * 201}": "invalid --reason: expected at most 200 printable",
    "degrade order --for 1m --reason \x1b[31m": "invalid --reason: expected at most 200 printable",
    "degrade order --for soon --reason x": "invalid --for 'soon': expected a number with a unit, such as 90s, 30m",
    "degrade order --for 0s --reason x": "invalid --for '0s': expected ",
    "degrade order --for=-5m --reason x": "invalid --for '-5m': expected ",
    "degrade order --for 8d --reason x": "invalid --for '8d': expected ",
    "ttl 900 --for 169h": "invalid --for '169h': expected ",
    "ttl 0 --for 1m": "invalid TTL '0': expected a number of seconds from 1 to 86400",
    "ttl 86401 --for 1m": "invalid TTL '86401': expected ",
    "ttl nan --for 1m": "invalid TTL 'nan': expected ",
    "clear cart": f"unknown override 'cart': expected {', '.join(OVERRIDE_NAMES)} or all",
}


def refused(ended):
    """Return the line of a refusal; fail unless the rest is a log in JSON without warnings."""
    status, out, errors = ended
    *log, line = errors.splitlines()
    assert (status, out, line[:17]) == (2, "", "support-service: "), ended
    assert {json.loads(entry)["level"] for entry in log} <= {"INFO"}
    assert not any(text in errors for text in ("secret", "Errno"))
    return line[17:]


@each_row(
    ("command", "variables", "expected"),
    [
        *(
            (each, {"SUPPORT_DATABASE_URL": "mysql://db"}, "SUPPORT_DATABASE_URL='mysql://db': expected ")
            for each in ANY
        ),
        *((each, UNKNOWN_HOST, UNKNOWN) for each in ("migrate", "serve", "timeline status", "sweep", "audit verify")),
        ("migrate", {"SUPPORT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}, REFUSED_CONNECTION),
        ("attach case file", {"SUPPORT_TOKEN": "one\ntwo\n"}, "SUPPORT_TOKEN=***: expected a token without spaces and"),
        ("serve", {"SUPPORT_HOST": "0.0.0.0"}, "SUPPORT_HOST='0.0.0.0': "),
        ("serve", {"SUPPORT_DATABASE_URL": "sqlite:////proc/nowhere/support.db"}, "The database at /proc/nowhere"),
        ("serve", {"SUPPORT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "The database at 127.0.0.1:1 "),
        ("serve", {"SUPPORT_DATABASE_URL": "postgresql://127.0.0.1:9/x?sslmode=maybe"}, "SUPPORT_DATABASE_URL"),
        ("serve", {"SUPPORT_DATABASE_URL": "postgresql://user:secret@127.0.0.1:9/x"}, "The database at 127.0.0.1:9 "),
        ("serve", {"SUPPORT_REDIS_URL": "redis://:secret@host:abc/0"}, "SUPPORT_REDIS_URL="),
        ("serve", {"SUPPORT_PORT": "eighty"}, "SUPPORT_PORT='eighty': "),
        ("serve", {"OTEL_METRICS_EXPORTER": "statsd"}, "OTEL_METRICS_EXPORTER='statsd': "),
        *((command, {}, NO_DATABASE) for command in ON_DATABASE),
        ("events dead-letters list", {}, "SUPPORT_EVENTS_REDIS_URL"),
        ("audit verify --from-head=", {}, "invalid --from-head "),
        ("audit verify --from-head abc", {}, "invalid --from-head "),
        (f"audit verify --from-head {'g' * 64}", {}, "invalid --from-head "),
        (f"erase customer {'z' * 37} --yes", {}, "1 to 36"),
        *((f"timeline {arguments}", {}, expected) for arguments, expected in OVERRIDES.items()),
        (CREATE, {"SUPPORT_TOKENS_FILE": "/proc/nowhere/tokens.json"}, "written"),
        ("token create lan --role agent", TOKENS, "--subject is missing"),
        ("token create lan --role customer --subject=", TOKENS, "--subject is missing"),
        ("token create 'a b' --role service", TOKENS, "invalid name 'a b': "),
        (f"token create {'x' * 65} --role service", TOKENS, "invalid name "),
        (f"token create x --role agent --subject {'y' * 37}", TOKENS, "1 to 36 printable characters"),
        ("token create x --role agent --subject y\x7f", TOKENS, "1 to 36 printable characters"),
        (f"{CREATE} --team=", TOKENS, "--team ''"),
        (f"{CREATE} --expires 90", TOKENS, "invalid --expires '90': expected "),
        (f"{CREATE} --expires 0d", TOKENS, "invalid --expires '0d': expected "),
        ("token revoke x", TOKENS, "does not exist"),
        ("token list", TOKENS, "does not exist"),
    ],
)
def test_refusal_is_one_line_and_leaves_no_file(run, tmp_path, command, variables, expected):
    """It names the setting, the argument or the file, and no password."""
    assert expected in refused(run(*shlex.split(command), **variables))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@each_row(
    ("variables", "expected"),
    [
        (TOKENS | {"SUPPORT_AUTH": "token"}, "The token file tokens.json does not exist"),
        (OTLP | {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "abc"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must"),
        (OTLP | {"OTEL_BSP_MAX_QUEUE_SIZE": "10"}, "less than or equal to max_queue_size"),
        (OTLP | {"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "interval value 0.0"),
        ({"SUPPORT_ATTACHMENT_DIR": "/proc/nowhere"}, "/proc/nowhere"),
        ({"SUPPORT_ADMIN_HOST": "a..b", "SUPPORT_ADMIN_PORT": "0"}, "SUPPORT_ADMIN_HOST='a..b'"),
        ({"SUPPORT_CONNECTIONS": "1000000000"}, "SUPPORT_CONNECTIONS"),  # more than any system allows one process
    ],
)
def test_part_that_cannot_be_opened_stops_the_start(run, variables, expected):
    assert expected in refused(run("serve", **{"SUPPORT_PORT": "0"} | variables))


def test_demo_refuses_settings_that_it_can_not_use(run):
    assert "SUPPORT_DATABASE_URL='mysql://db': expected " in refused(run("demo", **MYSQL))
    assert refused(run("demo", SUPPORT_AUTH="token")).startswith("SUPPORT_AUTH='token' requires SUPPORT_TOKEN")


@each_row("name", ["SUPPORT_PORT", "SUPPORT_ADMIN_PORT"])
def test_port_in_use_stops_the_start(run, name):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"{name}={port}: can't listen there" in refused(run("serve", **{"SUPPORT_PORT": "0", name: port}))


@each_row(
    ("command", "expected"),
    [
        ("token create x --role root", "'agent', 'supervisor', 'analyst', 'customer', 'service'"),
        ("events dead-letters replay abc", "argument ID"),
        ("events dead-letters drop 7", "argument ID"),
        (f"events webhooks replay {'9' * 20}", "argument ID"),
        ("events webhooks replay 1_0", "argument ID"),
        ("events republish --since yesterday", "expected a time with a time zone, such as 2026-05-12T08:30:00Z"),
        ("retention", "one of the arguments --older-than --closed-for is required"),
        ("retention --older-than 1d --closed-for 1d", "not allowed with argument"),
        ("import a --from other", "invalid choice"),
        ("reports export x.csv --from yesterday", "expected a day from 1970 to 2199, such as 2026-05-31"),
    ],
)
def test_arguments_that_the_parser_refuses(run, command, expected):
    """The usage and the reason, with status 2."""
    status, out, errors = run(*command.split())
    assert (status, out, expected in errors) == (2, "", True), errors


def test_invalid_token_file_is_not_overwritten(run, tmp_path):
    """Its content may still be recovered."""
    (tmp_path / "tokens.json").write_text("{")
    for command in (CREATE, "token revoke x", "token list"):
        assert "is invalid" in refused(run(*command.split(), **TOKENS))
    assert (tmp_path / "tokens.json").read_text() == "{"


def test_unknown_and_taken_names_of_tokens_are_refused(run):
    """Each refusal names the command that helps. The name of a revoked token is free."""
    assert run(*CREATE.split(), **TOKENS)[0] == 0
    assert "revoke it" in refused(run(*CREATE.split(), **TOKENS))
    assert "`support-service token list` lists all tokens" in refused(run("token", "revoke", "y", **TOKENS))
    assert run("token", "revoke", "x", **TOKENS)[0] == 0
    assert run("token", "create", "x", "--role", "supervisor", **TOKENS)[0] == 0
    assert run("token", "list", **TOKENS)[1].splitlines()[1].split()[:2] == ["x", "supervisor"]

"""`support-service token`: processes that share one token file."""

import asyncio
import json
import re

import pytest

from support_service.commands.parser import build_parser
from support_service.core.errors import SupportError
from support_service.platform.access.tokens import hash_token
from tests.support.process import START_TIMEOUT, running

pytestmark = pytest.mark.usefixtures("processes")

FOLLOW = "Every service that reads the file applies it within about 2 s.\n"


@pytest.fixture
def path(tmp_path):
    """The path of the token file."""
    return tmp_path / "tokens.json"


@pytest.fixture
def run_token(tmp_path, path):
    """Run a token command; return its status, output and errors."""

    async def run(*arguments, **variables):
        async with running(
            "token", *arguments, cwd=tmp_path, **{"SUPPORT_TOKENS_FILE": str(path)} | variables
        ) as command:
            return await command.wait_for_exit(within=START_TIMEOUT)

    return run


async def test_token_is_created_listed_and_revoked(run_token, path):
    """The new token is printed once, on standard output, and the list never shows it."""
    status, out, errors = await run_token(
        *("create", "lan", "--role", "agent", "--subject", "agent-lan"),
        *("--team", "returns", "--team", "vip", "--expires", "90d"),
    )
    assert status == 0
    assert re.fullmatch(r"sup_[A-Za-z0-9_-]{43}\n", out)
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"Store the token now: it is not shown again\. It expires {at}\. {FOLLOW}", errors)
    assert (await run_token("create", "shop", "--role", "service"))[0] == 0
    assert hash_token(out.strip()) in path.read_text()
    assert out.strip() not in path.read_text()
    status, listed, errors = await run_token("list")
    assert (status, errors) == (0, "")
    head, lan, shop = listed.splitlines()
    assert head.split() == ["NAME", "ROLE", "SUBJECT", "TEAMS", "CREATED", "EXPIRES", "STATE"]
    assert re.fullmatch(rf"lan +agent +agent-lan +returns,vip +{at} +{at} +valid", lan)
    assert re.fullmatch(rf"shop +service +- +- +{at} +never +valid", shop)
    assert await run_token("revoke", "lan") == (0, f"Revoked: lan. {FOLLOW}", "")
    assert await run_token("revoke", "lan") == (0, f"Already revoked: lan. {FOLLOW}", "")
    assert (await run_token("list"))[1].splitlines()[1].endswith("revoked")


async def test_times_are_listed_in_utc(run_token, path):
    """The file may have been edited, with another offset."""
    await run_token("create", "shop", "--role", "service", "--expires", "90d")
    content = json.loads(path.read_text())
    content["tokens"][0]["expires"] = "2999-05-12T03:00:00+07:00"
    path.write_text(json.dumps(content))
    assert "2999-05-11 20:00:00Z" in (await run_token("list"))[1]


async def test_name_of_a_revoked_token_is_free(run_token):
    """The name of a valid token is taken. A new token replaces the revoked one in the list."""
    await run_token("create", "shop", "--role", "service")
    await refused(run_token("create", "shop", "--role", "service"), "revoke it")
    await run_token("revoke", "shop")
    assert (await run_token("create", "shop", "--role", "supervisor"))[0] == 0
    _, listed, _ = await run_token("list")
    (shop,) = listed.splitlines()[1:]
    assert re.fullmatch(r"shop +supervisor .* valid", shop)


async def test_concurrent_commands_lose_no_token(run_token, path):
    created = await asyncio.gather(*(run_token("create", f"name-{number}", "--role", "service") for number in range(4)))
    assert {status for status, _, _ in created} == {0}
    known = {entry["sha256"] for entry in json.loads(path.read_text())["tokens"]}
    assert known == {hash_token(out.strip()) for _, out, _ in created}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("create", "lan", "--role", "agent"), "--subject is missing"),
        (("create", "lan", "--role", "customer", "--subject", ""), "--subject is missing"),
        (("create", "a b", "--role", "service"), "invalid name 'a b': "),
        (("create", "x" * 65, "--role", "service"), "invalid name "),
        (("create", "x", "--role", "agent", "--subject", "y" * 37), "1 to 36 printable characters"),
        (("create", "x", "--role", "agent", "--subject", "y\n"), "1 to 36 printable characters"),
        (("create", "x", "--role", "service", "--team", ""), "--team ''"),
        (("create", "x", "--role", "service", "--expires", "90"), "invalid --expires '90': expected "),
        (("create", "x", "--role", "service", "--expires", "0d"), "invalid --expires '0d': expected "),
        (("revoke", "x"), "does not exist"),
        (("list",), "does not exist"),
    ],
)
def test_invalid_arguments_are_refused(path, arguments, expected):
    """The error is one line, and nothing is written."""
    parsed = build_parser().parse_args(["token", *arguments])
    with pytest.raises(SupportError) as refusal:
        parsed.run(parsed, {"SUPPORT_TOKENS_FILE": str(path)})
    assert expected in refusal.value.detail
    assert "\n" not in refusal.value.detail
    assert not path.exists()


async def test_revoking_an_unknown_token_is_refused(run_token):
    """The error names the command that lists all tokens."""
    await run_token("create", "x", "--role", "service")
    await refused(run_token("revoke", "y"), "`support-service token list` lists all tokens")


async def test_unknown_role_is_refused(run_token, path):
    """The error lists all roles."""
    status, out, errors = await run_token("create", "x", "--role", "root")
    assert (status, out) == (2, "")
    assert "'agent', 'supervisor', 'analyst', 'customer', 'service'" in errors
    assert not path.exists()


async def test_invalid_token_file_is_not_overwritten(run_token, path):
    """Its content may still be recovered."""
    path.write_text("{")
    for command in (("create", "x", "--role", "service"), ("revoke", "x"), ("list",)):
        await refused(run_token(*command), "is invalid")
    assert path.read_text() == "{"


async def test_no_token_is_shown_if_the_file_cannot_be_written(run_token):
    """The error is one line."""
    await refused(
        run_token("create", "x", "--role", "service", SUPPORT_TOKENS_FILE="/proc/nowhere/tokens.json"), "written"
    )


async def test_link_to_itself_is_replaced_by_a_token_file(run_token, path):
    """Such a link cannot be read and has no token."""
    path.symlink_to(path)
    await refused(run_token("list"), "can't be read")
    assert (await run_token("create", "x", "--role", "service"))[0] == 0
    assert "x " in (await run_token("list"))[1]


@pytest.mark.parametrize("command", [(), ("create",), ("list",), ("revoke",)])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["token", *command, "--help"])
    assert ended.value.code == 0
    assert re.search(r"examples?:\n  support-service token ", capsys.readouterr().out)


async def refused(command, expected):
    """Check that a command ends with status 2 and one line that has the expected text."""
    status, out, errors = await command
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: ")
    assert expected in line

"""`support-service token`, as processes of their own on one file."""

import asyncio
import json
import re

import pytest

from support_service.access.token_file import hash_token
from support_service.arguments.parser import parser
from support_service.core.errors import SupportError
from tests.support.process import START_TIMEOUT, running

pytestmark = pytest.mark.usefixtures("processes")

FOLLOW = "Every service that reads the file applies it within about 2 s.\n"


@pytest.fixture
def path(tmp_path):
    """Where the file of tokens is."""
    return tmp_path / "tokens.json"


@pytest.fixture
def token(tmp_path, path):
    """Run a command; gives its status, its output and its errors."""

    async def run(*arguments, **variables):
        async with running(
            "token", *arguments, cwd=tmp_path, **{"SUPPORT_TOKENS_FILE": str(path)} | variables
        ) as command:
            return await command.wait_for_exit(within=START_TIMEOUT)

    return run


async def test_made_listed_and_revoked(token, path):
    """The token alone is on standard output, once; the list shows what is known of it, and never the token."""
    status, out, errors = await token(
        *("create", "lan", "--role", "agent", "--subject", "agent-lan"),
        *("--team", "returns", "--team", "vip", "--expires", "90d"),
    )
    assert status == 0
    assert re.fullmatch(r"sup_[A-Za-z0-9_-]{43}\n", out)
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"Store the token now: it is not shown again\. It expires {at}\. {FOLLOW}", errors)
    assert (await token("create", "shop", "--role", "service"))[0] == 0
    assert hash_token(out.strip()) in path.read_text()
    assert out.strip() not in path.read_text()
    status, listed, errors = await token("list")
    assert (status, errors) == (0, "")
    head, lan, shop = listed.splitlines()
    assert head.split() == ["NAME", "ROLE", "SUBJECT", "TEAMS", "CREATED", "EXPIRES", "STATE"]
    assert re.fullmatch(rf"lan +agent +agent-lan +returns,vip +{at} +{at} +valid", lan)
    assert re.fullmatch(rf"shop +service +- +- +{at} +never +valid", shop)
    assert await token("revoke", "lan") == (0, f"Revoked: lan. {FOLLOW}", "")
    assert await token("revoke", "lan") == (0, f"Already revoked: lan. {FOLLOW}", "")
    assert (await token("list"))[1].splitlines()[1].endswith("revoked")


async def test_a_name_is_free_again_when_its_token_is_void(token):
    """A valid token's name can't be taken; that of a revoked one can, and then names the new one alone."""
    await token("create", "shop", "--role", "service")
    await refused(token("create", "shop", "--role", "service"), "revoke it")
    await token("revoke", "shop")
    assert (await token("create", "shop", "--role", "supervisor"))[0] == 0
    _, listed, _ = await token("list")
    (shop,) = listed.splitlines()[1:]
    assert re.fullmatch(r"shop +supervisor .* valid", shop)


async def test_commands_at_once_lose_nothing(token, path):
    """Two people who make tokens at the same moment both find theirs in the file."""
    made = await asyncio.gather(*(token("create", f"name-{number}", "--role", "service") for number in range(4)))
    assert {status for status, _, _ in made} == {0}
    known = {entry["sha256"] for entry in json.loads(path.read_text())["tokens"]}
    assert known == {hash_token(out.strip()) for _, out, _ in made}


@pytest.mark.parametrize(
    ("arguments", "told"),
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
def test_what_can_not_be(path, arguments, told):
    """What breaks a rule is refused in one line, and nothing is written."""
    parsed = parser().parse_args(["token", *arguments])
    with pytest.raises(SupportError) as refusal:
        parsed.run(parsed, {"SUPPORT_TOKENS_FILE": str(path)})
    assert told in refusal.value.message
    assert "\n" not in refusal.value.message
    assert not path.exists()


async def test_an_unknown_token(token):
    """Who revokes what is not there is told where to look."""
    await token("create", "x", "--role", "service")
    await refused(token("revoke", "y"), "`support-service token list` lists all tokens")


async def test_an_unknown_role(token, path):
    """A role that is none is wrong usage, and all roles are named."""
    status, out, errors = await token("create", "x", "--role", "root")
    assert (status, out) == (2, "")
    assert "'agent', 'supervisor', 'analyst', 'customer', 'service'" in errors
    assert not path.exists()


async def test_a_broken_file_is_left_alone(token, path):
    """A file that can't be read is not written over: what it held may still be saved."""
    path.write_text("{")
    for command in (("create", "x", "--role", "service"), ("revoke", "x"), ("list",)):
        await refused(token(*command), "is invalid")
    assert path.read_text() == "{"


async def test_a_folder_that_can_not_be_written(token):
    """One line says what is wrong, and no token is shown that nobody could use."""
    await refused(token("create", "x", "--role", "service", SUPPORT_TOKENS_FILE="/proc/nowhere/tokens.json"), "written")


async def test_a_link_that_leads_nowhere(token, path):
    """A file that is a link to itself holds no token, and gives way to one that does."""
    path.symlink_to(path)
    await refused(token("list"), "can't be read")
    assert (await token("create", "x", "--role", "service"))[0] == 0
    assert "x " in (await token("list"))[1]


@pytest.mark.parametrize("command", [(), ("create",), ("list",), ("revoke",)])
def test_help_has_examples(command, capsys):
    """Each command says how it is used, by example."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["token", *command, "--help"])
    assert ended.value.code == 0
    assert re.search(r"examples?:\n  support-service token ", capsys.readouterr().out)


async def refused(command, told):
    """The command ends with status 2 and one line."""
    status, out, errors = await command
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: ")
    assert told in line

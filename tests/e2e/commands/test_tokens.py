"""`support-service token`: processes that share one token file. What is refused is in tests/unit/commands."""

import json
import re

import pytest

from support_service.platform.access.tokens import hash_token

pytestmark = pytest.mark.usefixtures("processes")

FOLLOW = "Every service that reads the file applies it within about 2 s.\n"


@pytest.fixture
def path(tmp_path, variables):
    variables["SUPPORT_TOKENS_FILE"] = str(tmp_path / "tokens.json")
    return tmp_path / "tokens.json"


async def test_token_is_created_listed_and_revoked(run, path):
    """The new token is printed once, on standard output, and the list never shows it."""
    status, out, errors = await run(
        *("token", "create", "lan", "--role", "agent", "--subject", "agent-lan"),
        *("--team", "returns", "--team", "vip", "--expires", "90d"),
    )
    assert status == 0
    assert re.fullmatch(r"sup_[A-Za-z0-9_-]{43}\n", out)
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"Store the token now: it is not shown again\. It expires {at}\. {FOLLOW}", errors)
    assert (await run("token", "create", "shop", "--role", "service"))[0] == 0
    assert hash_token(out.strip()) in path.read_text()
    assert out.strip() not in path.read_text()
    status, listed, errors = await run("token", "list")
    assert (status, errors) == (0, "")
    head, lan, shop = listed.splitlines()
    assert head.split() == ["NAME", "ROLE", "SUBJECT", "TEAMS", "CREATED", "EXPIRES", "STATE"]
    assert re.fullmatch(rf"lan +agent +agent-lan +returns,vip +{at} +{at} +valid", lan)
    assert re.fullmatch(rf"shop +service +- +- +{at} +never +valid", shop)
    assert await run("token", "revoke", "lan") == (0, f"Revoked: lan. {FOLLOW}", "")
    assert await run("token", "revoke", "lan") == (0, f"Already revoked: lan. {FOLLOW}", "")
    assert (await run("token", "list"))[1].splitlines()[1].endswith("revoked")


async def test_times_are_listed_in_utc(run, path):
    """The file may have been edited, with another offset."""
    await run("token", "create", "shop", "--role", "service", "--expires", "90d")
    content = json.loads(path.read_text())
    content["tokens"][0]["expires"] = "2999-05-12T03:00:00+07:00"
    path.write_text(json.dumps(content))
    assert "2999-05-11 20:00:00Z" in (await run("token", "list"))[1]


async def test_link_to_itself_is_replaced_by_a_token_file(run, path):
    """Such a link cannot be read and has no token."""
    path.symlink_to(path)
    status, _, errors = await run("token", "list")
    assert (status, "can't be read" in errors) == (2, True)
    assert (await run("token", "create", "x", "--role", "service"))[0] == 0
    assert "x " in (await run("token", "list"))[1]

"""A service that asks who calls, as a process of its own, with the commands that a person types beside it."""

import asyncio
import json
from functools import partial

import aiohttp
import pytest

from tests.support.access.fixtures import AUDIENCE, ISSUER, write_token
from tests.support.calls import eventually, expect_problem, open_case
from tests.support.process import START_TIMEOUT, running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def variables(migrated_folder):
    """A service that asks for tokens, in a folder of its own."""
    return {
        "SUPPORT_PORT": str(free_port()),
        "SUPPORT_AUTH": "token",
        "SUPPORT_ACCESS_LOG": "1",
        "cwd": migrated_folder,
    }


@pytest.fixture
def address(variables):
    return f"http://127.0.0.1:{variables['SUPPORT_PORT']}"


@pytest.fixture
def run(tmp_path):
    """Run a command to its end in the service's folder; gives what it printed."""

    async def run(*arguments, status=0, **variables):
        async with running(*arguments, cwd=tmp_path, **variables) as command:
            found, out, errors = await command.wait_for_exit(within=START_TIMEOUT)
        assert found == status, errors
        return out.strip()

    return run


@pytest.fixture
def add_token(tmp_path):
    """Put a token into the service's file without a command, where the command is not what is tested."""
    return partial(write_token, tmp_path / "var" / "tokens.json")


async def until(address, token, status):
    async with aiohttp.ClientSession(address, headers=sent(token)) as session:

        async def answers_so():
            async with session.get("/support/cases") as response:
                return response.status == status

        await eventually(answers_so)


def sent(token):
    return {"Authorization": f"Bearer {token}"}


async def test_created_and_revoked_tokens_apply_to_a_running_service(variables, address, run, add_token, tmp_path):
    """Within seconds, without a restart.

    `attach` and `demo traffic` act by SUPPORT_TOKEN. No token is in the log, in whatever way it was sent.
    """
    first = add_token("first", role="supervisor")
    async with running("serve", **variables) as service:
        await service.wait_until_ready(address)
        await until(address, first, 200)
        second = await run("token", "create", "second", "--role", "supervisor")
        await until(address, second, 200)
        async with aiohttp.ClientSession(address, headers=sent(second)) as session:
            case = await open_case(session)
        (tmp_path / "note.txt").write_text("hello")
        port = {"SUPPORT_PORT": variables["SUPPORT_PORT"]}
        attach = ("attach", case["id"], "note.txt")
        traffic = ("demo", "traffic", "--base-url", address, "--rate", "40", "--duration", "0.5")
        attached, _, served, turned_away = await asyncio.gather(
            run(*attach, SUPPORT_TOKEN=second, **port),
            run(*attach, status=1, **port),
            run(*traffic, SUPPORT_TOKEN=second),
            run(*traffic),
        )
        assert "/attachments/" in attached
        assert "2xx" in served
        assert "2xx" not in turned_away
        await run("token", "revoke", "second")
        await until(address, second, 401)
        await until(address, first, 200)
        async with aiohttp.ClientSession(address) as session:
            await session.get("/support/cases", headers=sent(first + "x"), params={"q": "x"})
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    assert first not in log
    assert second not in log
    assert "Traceback" not in log


async def test_demo_with_tokens_opens_its_cases_with_support_token(variables, add_token):
    token = add_token("x", role="supervisor")
    async with running("demo", **variables, SUPPORT_TOKEN=token) as demonstration:
        assert "83 cases" in await demonstration.read_output(until="cases.")


async def test_admin_port_is_closed_last(variables, address, add_token):
    """While a stop waits, metrics and health are served there; afterwards neither port is open."""
    add_token("x")
    other = f"http://127.0.0.1:{free_port()}"
    admin = {"SUPPORT_ADMIN_PORT": other.rpartition(":")[2], "SUPPORT_STOP_DELAY": "60"}
    async with running("serve", **variables, **admin) as service:
        await service.wait_until_ready(address)
        async with aiohttp.ClientSession(address) as main, aiohttp.ClientSession(other) as session:
            await expect_problem(await main.get("/metrics"), 403, "metrics_closed")
            service.stop()

            async def not_ready():
                async with session.get("/readyz") as response:
                    return response.status == 503

            await eventually(not_ready)
            assert (await session.get("/livez")).status == 200
            assert (await session.get("/metrics")).status == 200


async def test_stop_closes_both_ports(variables, address, add_token):
    """With status 0, although a connection to either port is open."""
    add_token("x")
    other = f"http://127.0.0.1:{free_port()}"
    async with running("serve", **variables, SUPPORT_ADMIN_PORT=other.rpartition(":")[2]) as service:
        await service.wait_until_ready(address)
        async with aiohttp.ClientSession(address) as main, aiohttp.ClientSession(other) as session:
            for each in (main, session):
                assert (await each.get("/livez")).status == 200
            service.stop()
            status, _, log = await service.wait_for_exit()
    assert status == 0
    assert any(other in json.loads(line)["message"] for line in log.splitlines())


async def test_service_with_jwts_may_listen_on_any_address(variables, issuer):
    """Callers are identified by the tokens of the issuer."""
    port = variables["SUPPORT_PORT"]
    jwt = {"SUPPORT_JWT_KEYS": issuer.jwks_location, "SUPPORT_JWT_ISSUER": ISSUER, "SUPPORT_JWT_AUDIENCE": AUDIENCE}
    address = f"http://127.0.0.1:{port}"
    changed = {"SUPPORT_AUTH": "jwt", "SUPPORT_HOST": "0.0.0.0", "SUPPORT_METRICS_TOKEN": "m" * 16, **jwt}
    async with running("serve", **variables | changed) as service:
        await service.wait_until_ready(address)
        token = issuer.sign()
        async with aiohttp.ClientSession(address) as session:
            assert (await session.get("/support/cases", headers=sent(token))).status == 200
            await expect_problem(
                await session.get("/support/cases", headers=sent(issuer.sign(aud="x"))), 401, "token_invalid"
            )
            issuer.add_key("new", "EC", "P-256")
            new = issuer.sign("new", "ES256", role="service")
            await expect_problem(await session.get("/support/cases", headers=sent(new)), 403, "permission_missing")
            async with session.get("/metrics", headers=sent("m" * 16)) as response:
                text = await response.text()
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    assert 'support_access_authentications_total{outcome="accepted"} 2.0' in text
    assert "\nsupport_access_keys_age_seconds " in text
    assert not any(secret in log for secret in (token, new, "m" * 16))

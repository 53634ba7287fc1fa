"""The keys follow the keys of the issuer, and an issuer in trouble is no trouble here."""

import asyncio
import json
import logging
from base64 import encodebytes
from contextlib import suppress

import pytest
from joserfc.jwk import generate_key

from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated, Unavailable
from support_service.platform.access.keys import open_key_source, parse_key_set
from support_service.platform.access.timings import JwksTimings
from support_service.platform.telemetry.logs import LIMITED_LOGGERS, RateLimitFilter
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.clock import Clock
from tests.support.each import each_row
from tests.support.upstream_faults import endless_interim_responses


async def refused(jwt, token, kind=Unauthenticated):
    with pytest.raises(kind) as refusal:
        await jwt.verify(token)
    return refusal.value.code


def complaints(caplog, package=""):
    """The warnings and errors that a package has logged, whatever else the root logger's level lets through."""
    return [
        record.message
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith(package)
    ]


async def test_reloads_for_unknown_key_ids_are_limited(issuer, open_verifier):
    """The issuer gets one request in 30 s, and known keys work meanwhile."""
    clock = Clock()
    jwt = await open_verifier(clock=clock)
    token = issuer.sign()
    forged = [issuer.sign(header={"kid": f"forged-{number}"}) for number in range(50)]
    for turn in range(3):
        answers = await asyncio.gather(*(refused(jwt, each) for each in forged))
        assert {*answers} == {"token_invalid"}
        assert await jwt.verify(token)
        assert len(issuer.calls) == 2 + turn
        clock.now += 29.9
        assert await refused(jwt, forged[0]) == "token_invalid"
        assert len(issuer.calls) == 2 + turn
        clock.now += 0.2


async def test_concurrent_reloads_share_one_request(issuer, open_verifier):
    """Known keys are accepted meanwhile, and a caller that is cancelled does not cancel the reload."""
    jwt = await open_verifier()
    issuer.add_key("new", "RSA", 2048)
    release = issuer.hang()
    known, new = issuer.sign(), issuer.sign("new")
    cancelled, *waiting = [asyncio.create_task(jwt.verify(new)) for _ in range(20)]
    refreshing = asyncio.create_task(jwt.keys.refresh())
    await eventually(lambda: issuer.waiting == 1)
    assert await jwt.verify(known)
    assert not any(task.done() for task in waiting)
    cancelled.cancel()
    release.set()
    assert {caller.name for caller in await asyncio.gather(*waiting)} == {"user-17"}
    await refreshing
    assert len(issuer.calls) == 2


async def test_keys_follow_those_of_the_issuer(issuer, open_verifier, caplog):
    """An unknown key id reloads them. A removed key is refused after a refresh, also for tokens accepted before.

    The issuer may withdraw all keys, which is logged. About a megabyte of an answer is read.
    """
    jwt = await open_verifier()
    good = issuer.sign()
    issuer.add_key("other", "RSA", 2048)
    leaked = issuer.sign("other")
    assert (await jwt.verify(leaked)).name == "user-17"
    assert len(issuer.calls) == 2
    issuer.remove_key("other")
    assert await jwt.verify(leaked)
    await jwt.keys.refresh()
    assert await refused(jwt, leaked) == "token_invalid"
    assert await jwt.verify(good)
    issuer.remove_key("rsa")
    with caplog.at_level(logging.ERROR):
        await jwt.keys.refresh()
    assert await refused(jwt, good) == "token_invalid"
    assert complaints(caplog) == ["SUPPORT_JWT_KEYS has 0 usable keys"]
    issuer.serve_huge_body()
    await jwt.keys.refresh()
    assert (1 << 20) < issuer.sent < (16 << 20)  # what the kernel's buffers hold comes on top


TROUBLES = {
    "500": lambda issuer: issuer.fail_with(500),
    "404": lambda issuer: issuer.fail_with(404),
    "a redirect": lambda issuer: issuer.fail_with(302, Location=f"{issuer.url}/elsewhere"),
    "garbage": lambda issuer: issuer.answer_with_bytes(b"\x00\xff{"),
    "no JSON": lambda issuer: issuer.answer_with_bytes("<html>"),
    "no set": lambda issuer: issuer.answer_with_document({"error": "x"}),
    "no list": lambda issuer: issuer.answer_with_document({"keys": {"kty": "RSA"}}),
    "a list": lambda issuer: issuer.answer_with_document([]),
    "too deep": lambda issuer: issuer.answer_with_bytes("[" * 100_000),
    "twice": lambda issuer: issuer.answer_with_bytes('{"keys": [], "keys": []}'),
    "a hang": lambda issuer: issuer.hang(),
    "a broken answer": lambda issuer: issuer.close_in_body(),
    "no answer": lambda issuer: issuer.drop(),
    "interim answers": lambda issuer: setattr(issuer, "fault", endless_interim_responses),
    "1 GiB": lambda issuer: issuer.serve_huge_body(),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_known_keys_are_kept_while_the_issuer_fails(issuer, open_verifier, trouble, caplog):
    """Their age grows, and the failure is logged once a minute."""
    clock, hurried = Clock(), False
    async with (
        open_key_source(issuer.jwks_location, 6 * GENEROUS_TIMEOUT) as read_usual,
        open_key_source(issuer.jwks_location, 0.1) as read_hurried,
    ):

        async def read():
            return await (read_hurried if hurried else read_usual)()

        jwt = await open_verifier(read=read, clock=clock)
        known = issuer.sign()
        hurried = trouble == "a hang"  # the other troubles end before any timeout
        TROUBLES[trouble](issuer)
        limit = RateLimitFilter(*LIMITED_LOGGERS)
        with caplog.at_level(logging.ERROR, logger="support_service"), caplog.filtering(limit):
            for age in (1, 2):
                clock.now += 1
                await jwt.keys.refresh()
                assert jwt.keys.age == age
        hurried = False
        assert (await jwt.verify(known)).name == "user-17"
        (line,) = complaints(caplog, "support_service")
        prefix, _, reason = line.partition(": ")
        assert prefix == "SUPPORT_JWT_KEYS can't be loaded"
        assert len(reason.split()) > 1
        issuer.heal()
        issuer.add_key("new", "RSA", 2048)
        assert (await jwt.verify(issuer.sign("new"))).name == "user-17"
        assert jwt.keys.age == 0
        assert "/elsewhere" not in issuer.calls


async def test_service_starts_while_the_issuer_is_down(issuer, open_verifier):
    """Callers are refused as unavailable until it is back."""
    issuer.fail_with(503)
    # The clock stands still, so that after the first token no unknown key causes a refresh.
    jwt = await open_verifier(clock=Clock(), options={"timings": JwksTimings(retry_interval=0.01)})
    token = issuer.sign()
    assert await refused(jwt, token, Unavailable) == "keys_unavailable"
    assert await refused(jwt, "x") == "token_invalid"
    issuer.heal()

    async def verified():
        with suppress(Unavailable):
            return await jwt.verify(token)

    assert await eventually(verified) == Principal("user-17", "supervisor", "user-17")


async def test_keys_are_refreshed_in_the_background(issuer, open_verifier):
    """Without any request. A token of an old key with the same id is then refused."""
    jwt = await open_verifier(options={"timings": JwksTimings(refresh_interval=0.01)})
    leaked = issuer.sign()
    assert await jwt.verify(leaked)
    issuer.add_key("rsa", "RSA", 2048)
    seen = len(issuer.calls)
    await eventually(lambda: len(issuer.calls) > seen + 2)
    assert await refused(jwt, leaked) == "token_invalid"
    assert await jwt.verify(issuer.sign())


async def test_shutdown_does_not_wait_for_the_issuer(issuer, open_verifier):
    """Callers that wait for a key are refused."""
    jwt = await open_verifier()
    issuer.hang()
    waiting = asyncio.create_task(jwt.verify(issuer.sign(header={"kid": "new"})))
    await eventually(lambda: issuer.waiting == 1)
    async with asyncio.timeout(GENEROUS_TIMEOUT):  # a question is given up after six times that
        await open_verifier.close()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], Unauthenticated)


@pytest.mark.parametrize("kind", ["jwks", "jwk", "pem"])
async def test_keys_are_read_from_a_file(issuer, open_verifier, tmp_path, kind):
    """A JWKS, one JWK, or PEM, whose keys have no ids. It is reloaded like a URL."""
    path = tmp_path / "keys"

    def write():
        key = issuer.keys["rsa"]
        forms = {
            "jwks": json.dumps(issuer.document).encode(),
            "jwk": json.dumps(key.as_dict(private=False)).encode(),
            "pem": key.as_pem(private=False),
        }
        path.write_bytes(forms[kind])

    write()
    jwt = await open_verifier(str(path))
    old = issuer.sign()
    assert await jwt.verify(old)
    issuer.add_key("rsa", "RSA", 2048)
    write()
    await jwt.keys.refresh()
    assert await jwt.verify(issuer.sign())
    assert await refused(jwt, old) == "token_invalid"
    path.unlink()
    await jwt.keys.refresh()
    assert await jwt.verify(issuer.sign())


@pytest.mark.filterwarnings("ignore:Key size should be")
@each_row("content", ["missing", "garbage", "none", "private", "small", "small PEM"])
async def test_file_without_usable_keys_stops_the_start(open_verifier, tmp_path, content):
    """In one line. Private and weak keys are not usable."""
    path = tmp_path / "keys"
    private, small = generate_key("RSA", 2048), generate_key("RSA", 1024)
    contents = {
        "garbage": b"{",
        "none": b'{"keys": []}',
        "private": private.as_pem(private=True),
        "small": json.dumps(small.as_dict(private=False)).encode(),
        "small PEM": small.as_pem(private=False),
    }
    if content in contents:
        path.write_bytes(contents[content])
    with pytest.raises(Unavailable) as refusal:
        await open_verifier(str(path))
    assert refusal.value.code == "keys_unavailable"
    assert "\n" not in refusal.value.detail


def test_pem_key_of_an_unsupported_curve_is_skipped():
    """The others are used. The curve is brainpoolP224r1."""
    curve = bytes.fromhex("06072a8648ce3d0201 06092b2403030208010105")
    info = b"\x30\x52\x30\x14" + curve + b"\x03\x3a\x00\x04" + bytes(56)
    unsupported = b"-----BEGIN PUBLIC KEY-----\n%s-----END PUBLIC KEY-----\n" % encodebytes(info)
    good = generate_key("EC", "P-256").as_pem(private=False)
    assert len(parse_key_set(unsupported + good)) == 1


def test_unusable_keys_of_a_set_are_reported_by_position(caplog):
    """The others are used, up to a limit."""
    good = generate_key("EC", "P-256", {"kid": "good"}).as_dict(private=False)
    private = generate_key("EC", "P-256").as_dict(private=True)
    odd = [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "none", "x": 1, "y": None},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44"},
        good | {"use": "enc"},
        good | {"key_ops": ["sign"]},
        private,
        *(7, None, "x", []),
    ]
    with caplog.at_level(logging.WARNING):
        found = parse_key_set(json.dumps({"keys": [*odd, good]}).encode())
    assert len(found) == 1
    assert found.find("good", "ES256").kid == "good"
    assert len(caplog.records) == len(odd)
    assert "Ignoring key 4 of the JWKS: KeyParameterError" in caplog.messages
    assert private["d"] not in caplog.text
    many = [good | {"kid": str(number)} for number in range(300)]
    assert len(parse_key_set(json.dumps({"keys": many}).encode())) == 100

"""The keys follow those of the issuer, and an issuer in trouble is no trouble here."""

import asyncio
import json
import logging
from contextlib import suppress

import pytest
from joserfc.jwk import generate_key

from support_service.access.key_source import create_key_source
from support_service.access.keys import parse_key_set
from support_service.access.timings import JwksTimings
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated, Unavailable
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.upstream_faults import endless_interim_responses


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """Return the seconds."""
        return self.now


class RetimedSource:
    """The issuer's keys, with a timeout that can be shortened while the source is open."""

    def __init__(self, url):
        self._usual, self._hurried = create_key_source(url, 6 * GENEROUS_TIMEOUT), create_key_source(url, 0.1)
        self.short_timeout = False

    async def open(self):
        """Open both clients."""
        await self._usual.open()
        await self._hurried.open()

    async def close(self):
        """Close both clients."""
        await self._usual.close()
        await self._hurried.close()

    async def read(self):
        """Read the keys within the timeout that holds now."""
        return await (self._hurried if self.short_timeout else self._usual).read()


async def refused(jwt, token, kind=Unauthenticated):
    """The code of a refusal."""
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


async def test_a_new_key_is_found_at_once(issuer, open_verifier):
    """A token that names a key nobody knew makes the keys be read again, and is let in."""
    jwt = await open_verifier()
    issuer.add_key("new", "RSA", 2048)
    assert (await jwt.verify(issuer.sign("new"))).name == "user-17"
    assert len(issuer.calls) == 2


async def test_unknown_keys_without_end(issuer, open_verifier):
    """However many tokens name keys that are none, the issuer is asked once in 30 s; known keys work meanwhile."""
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


async def test_one_question_at_a_time(issuer, open_verifier):
    """While the issuer is asked, everyone who waits for a new key waits for that one answer."""
    jwt = await open_verifier()
    issuer.add_key("new", "RSA", 2048)
    release = issuer.hang()
    known, new = issuer.sign(), issuer.sign("new")
    waiting = [asyncio.create_task(jwt.verify(new)) for _ in range(20)]
    refreshing = asyncio.create_task(jwt.keys.refresh())
    await eventually(lambda: issuer.waiting == 1)
    assert await jwt.verify(known)  # nobody else is held up
    assert not any(task.done() for task in waiting)
    release.set()
    assert {caller.name for caller in await asyncio.gather(*waiting)} == {"user-17"}
    await refreshing
    assert len(issuer.calls) == 2


async def test_a_caller_who_leaves(issuer, open_verifier):
    """Who gives up while the issuer is asked takes the answer away from nobody."""
    jwt = await open_verifier()
    issuer.add_key("new", "RSA", 2048)
    release = issuer.hang()
    token = issuer.sign("new")
    first, second = (asyncio.create_task(jwt.verify(token)) for _ in range(2))
    await eventually(lambda: issuer.waiting == 1)
    first.cancel()
    release.set()
    assert (await second).name == "user-17"


async def test_a_key_that_is_gone(issuer, open_verifier):
    """A key that the issuer serves no more lets nobody in after the next refresh, also who was in before."""
    issuer.add_key("other", "RSA", 2048)
    jwt = await open_verifier()
    leaked, good = issuer.sign("other"), issuer.sign()
    assert await jwt.verify(leaked)
    issuer.remove_key("other")
    assert await jwt.verify(leaked)
    await jwt.keys.refresh()
    assert await refused(jwt, leaked) == "token_invalid"
    assert await jwt.verify(good)


async def test_an_id_with_another_key(issuer, open_verifier):
    """A key that takes over another's id takes over none of its tokens."""
    jwt = await open_verifier()
    old = issuer.sign()
    assert await jwt.verify(old)
    issuer.add_key("rsa", "RSA", 2048)
    await jwt.keys.refresh()
    assert await refused(jwt, old) == "token_invalid"
    assert await jwt.verify(issuer.sign())


async def test_an_emptied_set(issuer, open_verifier, caplog):
    """An issuer that withdraws all keys is believed, and that is told."""
    jwt = await open_verifier()
    token = issuer.sign()
    assert await jwt.verify(token)
    issuer.remove_key("rsa")
    with caplog.at_level(logging.ERROR):
        await jwt.keys.refresh()
    assert await refused(jwt, token) == "token_invalid"
    assert complaints(caplog) == ["SUPPORT_JWT_KEYS has 0 usable keys"]


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
async def test_an_issuer_in_trouble(issuer, open_verifier, trouble, caplog):
    """Whatever becomes of the issuer, the keys that are known stay and their age grows; that is told once."""
    clock, keys = Clock(), RetimedSource(issuer.jwks_location)
    jwt = await open_verifier(keys=keys, clock=clock)
    known = issuer.sign()
    keys.short_timeout = trouble == "a hang"  # the other troubles end before any timeout
    TROUBLES[trouble](issuer)
    with caplog.at_level(logging.ERROR, logger="support_service"):
        for age in (1, 2):
            clock.now += 1
            await jwt.keys.refresh()
            assert jwt.keys.age == age
    keys.short_timeout = False
    assert (await jwt.verify(known)).name == "user-17"
    (line,) = complaints(caplog, "support_service")
    assert line.startswith("SUPPORT_JWT_KEYS can't be loaded: ")
    issuer.heal()
    issuer.add_key("new", "RSA", 2048)
    assert (await jwt.verify(issuer.sign("new"))).name == "user-17"
    assert jwt.keys.age == 0
    assert "/elsewhere" not in issuer.calls


async def test_an_answer_without_end(issuer, open_verifier):
    """Of an answer that has no end about a megabyte is read."""
    jwt = await open_verifier()
    issuer.serve_huge_body()
    await jwt.keys.refresh()
    assert (1 << 20) < issuer.sent < (16 << 20)  # what the kernel's buffers hold comes on top


async def test_a_start_without_the_issuer(issuer, open_verifier):
    """A service starts while its issuer is down; it can't tell who anyone is until the issuer is back, and says so."""
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


async def test_keys_are_read_again_in_the_background(issuer, open_verifier):
    """Nobody has to ask for the keys to follow the issuer's."""
    jwt = await open_verifier(options={"timings": JwksTimings(refresh_interval=0.01)})
    leaked = issuer.sign()
    issuer.add_key("rsa", "RSA", 2048)
    seen = len(issuer.calls)
    await eventually(lambda: len(issuer.calls) > seen + 2)
    assert await refused(jwt, leaked) == "token_invalid"


async def test_a_stop_while_the_issuer_hangs(issuer, open_verifier):
    """A stop waits for no issuer, and who waits for a key is sent away."""
    jwt = await open_verifier()
    issuer.hang()
    waiting = asyncio.create_task(jwt.verify(issuer.sign(header={"kid": "new"})))
    await eventually(lambda: issuer.waiting == 1)
    async with asyncio.timeout(GENEROUS_TIMEOUT):  # a question is given up after six times that
        await jwt.close()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], Unauthenticated)


@pytest.mark.parametrize("kind", ["jwks", "jwk", "pem"])
async def test_keys_out_of_a_file(issuer, open_verifier, tmp_path, kind):
    """A file may hold a JWKS, one JWK or PEM; it is read again like an address, and PEM has no ids to go by."""
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
@pytest.mark.parametrize("content", ["missing", "garbage", "none", "private", "small", "small PEM"])
async def test_no_start_without_keys_in_a_file(open_verifier, tmp_path, content):
    """A file without a key that can be used stops the start, in one line; private and weak keys are no use."""
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
    assert "\n" not in refusal.value.message


def test_what_is_left_out_of_a_set(caplog):
    """A key that can't be used is told by its place, and the others serve; only so many are looked at."""
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
    assert private["d"] not in caplog.text
    assert (
        len(parse_key_set(json.dumps({"keys": [good | {"kid": str(number)} for number in range(300)]}).encode())) == 100
    )

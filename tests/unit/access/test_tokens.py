"""Callers known by a token out of a file, whatever happens to that file while the service runs."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated, Unavailable
from support_service.platform.access import tokens as token_file
from support_service.platform.access.timings import AccessTimings
from support_service.platform.access.tokens import (
    FileTokenVerifier,
    edit_token_file,
    hash_token,
    new_token,
    read_token_file,
)
from support_service.platform.background import Runner
from support_service.platform.telemetry.logs import LIMITED_LOGGERS, RateLimitFilter
from tests.support.access.fixtures import write_token
from tests.support.each import each_row

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access" / "tokens.json"


@pytest.fixture
def add(path):
    def put(name="lan", **fields):
        return write_token(path, name, **{"created": NOW} | fields)

    return put


@pytest.fixture
async def tokens(path):
    """Open the file's authenticator with the clock at NOW; a list holds the clock. It looks when a test tells it to."""
    clock = [NOW]
    async with Runner() as opened:

        async def start():
            tokens = FileTokenVerifier(path, lambda: clock[0], AccessTimings(token_file_check_interval=3600))
            await tokens.start(opened)
            return tokens

        start.clock = clock
        yield start


async def refusal(authenticator, token):
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.verify(token)
    assert not token or token not in refused.value.detail
    return refused.value.code


async def test_token_of_the_file_becomes_a_principal(add, tokens):
    token = add(role="agent", subject="agent-lan", teams=("returns", "vip"))
    found = await (await tokens()).verify(token)
    assert found == Principal("lan", "agent", "agent-lan", frozenset({"returns", "vip"}))


async def test_token_is_random_with_a_known_prefix(path, add):
    """It has 256 random bits. The file has only its hash, and only its owner can read it."""
    token = add()
    assert (token[:4], len(token)) == ("sup_", 4 + 43)
    assert token != new_token()
    assert token not in path.read_text()
    assert hash_token(token) in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert hash_token(token) not in repr(read_token_file(path))


async def test_any_other_text_is_refused(add, tokens):
    """Also the hash of a token: the content of the file gives no access."""
    token = add()
    authenticator = await tokens()
    texts = ("", "sup_", "sup_" + "x" * 43, "é", "\udcff", "Bearer", hash_token(token), token.upper())
    assert {await refusal(authenticator, sent) for sent in texts} == {"token_invalid"}


async def test_expired_token_is_refused_without_reading_the_file(add, tokens):
    token = add(expires=NOW + timedelta(hours=1))
    authenticator = await tokens()
    tokens.clock[0] = NOW + timedelta(minutes=59, seconds=59)
    assert (await authenticator.verify(token)).name == "lan"
    tokens.clock[0] = NOW + timedelta(hours=1)
    assert await refusal(authenticator, token) == "token_expired"


async def test_changes_of_the_file_apply_without_a_restart(path, add, tokens):
    first = add("first")
    authenticator = await tokens()
    second = add("second")
    assert await refusal(authenticator, second) == "token_invalid"
    await authenticator.reload_if_changed()
    assert (await authenticator.verify(second)).name == "second"
    with edit_token_file(path) as entries:
        entries[0] = entries[0].model_copy(update={"revoked": NOW})
    await authenticator.reload_if_changed()
    assert await refusal(authenticator, first) == "token_invalid"
    assert (await authenticator.verify(second)).name == "second"


BROKEN = ["", "{", "[]", '{"tokens": [{"name": "x"}]}', '{"tokens": []} x', "\x00" * 100]


@pytest.mark.parametrize("content", [*BROKEN, None])
async def test_unreadable_token_file_keeps_the_known_tokens(path, add, tokens, content, caplog):
    """Also if it is missing, or a folder. It is logged once a minute, and a repaired file is applied."""
    token = add()
    good = path.read_bytes()
    authenticator = await tokens()
    if content is None:
        path.unlink()
        path.mkdir()
        await authenticator.reload_if_changed()
        path.rmdir()
        caplog.clear()
    else:
        path.write_text(content)
    with caplog.at_level(logging.ERROR), caplog.filtering(RateLimitFilter(*LIMITED_LOGGERS)):
        for _ in range(3):
            await authenticator.reload_if_changed()
    assert (await authenticator.verify(token)).name == "lan"
    (line,) = [record.message for record in caplog.records]
    assert str(path) in line
    assert "\n" not in line
    path.write_bytes(good)
    other = add("other")
    await authenticator.reload_if_changed()
    assert (await authenticator.verify(other)).name == "other"


@pytest.mark.parametrize("content", [None, *BROKEN])
async def test_missing_token_file_stops_the_start(path, content):
    """In one line with the reason, and with the command that creates it."""
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    with pytest.raises(Unavailable) as refused:
        await FileTokenVerifier(path).start(Runner())
    assert refused.value.code == "tokens_unavailable"
    assert str(path) in refused.value.detail
    assert "\n" not in refused.value.detail
    missing = "does not exist; create it with `support-service token create" in refused.value.detail
    assert missing == (content is None)


GOOD = {"name": "lan", "sha256": "0" * 64, "role": "service", "created": "2026-11-25T12:00:00Z"}


@each_row(
    ("change", "told"),
    [
        ({"role": "root"}, "tokens.0.role"),
        *(({"role": role}, "needs a subject") for role in ("agent", "customer")),
        *(({"sha256": value}, "tokens.0.sha256") for value in ("0" * 63, "A" * 64)),
        *(({"name": name}, "tokens.0.name") for name in ("a b", "x\n")),
        ({"created": "2026-11-25T12:00:00"}, "tokens.0.created"),
        ({"subject": "x" * 37}, "tokens.0.subject"),
        ({"teams": ["a\nb"]}, "tokens.0.teams.0"),
        ({"scopes": ["all"]}, "tokens.0.scopes"),
        *(({"name": "b"}, "same sha256"), ({"sha256": "1" * 64}, "same name")),
    ],
)
def test_invalid_entry_is_named_and_the_file_refused(path, change, told):
    """By its position. Names and hashes must be unique."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"tokens": [GOOD | change] + [GOOD] * told.startswith("same")}))
    with pytest.raises(Unavailable, match=told):
        read_token_file(path)


def test_concurrent_changes_of_the_file_are_all_applied(path, add):
    """Readers see complete files only."""
    add("first")
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda number: add(f"token-{number}"), range(40))
        seen = [len(read_token_file(path)) for _ in range(200)]
        given = set(map(hash_token, made))
    assert seen == sorted(seen)
    assert given <= {entry.sha256 for entry in read_token_file(path)}
    assert len(read_token_file(path)) == 41


def test_interrupted_change_leaves_the_file_unchanged(path, add, monkeypatch):
    """The next change works."""
    add("first")
    before = path.read_bytes()

    class Died(BaseException):
        pass

    def change():
        with edit_token_file(path) as entries:
            entries.clear()
            raise Died

    with pytest.raises(Died):
        change()
    assert path.read_bytes() == before

    def die(_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(token_file.os, "fsync", die)
        with pytest.raises(Died):
            add("second")
    assert path.read_bytes() == before
    add("third")
    assert [entry.name for entry in read_token_file(path)] == ["first", "third"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_token_file_keeps_its_owner(path, add, tmp_path):
    """After a change by root, the user of the service can still read it. A link to it, as in Kubernetes, stays."""
    path.parent.mkdir()
    real = tmp_path / "real.json"
    path.symlink_to(real)
    add("first")
    os.chown(path, 10001, 10001)
    add("second")
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (10001, 10001, 0o600)
    assert (path.is_symlink(), real.is_file(), len(read_token_file(path))) == (True, True, 2)

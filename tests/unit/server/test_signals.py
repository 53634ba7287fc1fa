"""One process that serves: its signals, and the descriptors that it may have."""

import asyncio
import logging
import resource
import signal

import pytest

from support_service.server import RESERVED_DESCRIPTORS, fit_connection_limit, stop_signal
from support_service.settings import Settings, WrongSetting


async def test_two_signals_at_once_are_one_stop():
    """The first of several signals that come before the loop looks is the one that counts."""
    stopped = asyncio.ensure_future(stop_signal())
    await asyncio.sleep(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)
    assert await stopped == "SIGTERM"


def test_a_default_that_is_too_large_is_made_smaller(monkeypatch, caplog):
    """Where few files may be open there are fewer connections, which is logged; a number that was chosen is refused."""
    may_have = RESERVED_DESCRIPTORS + 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (may_have, may_have))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        assert fit_connection_limit(Settings.load({})).limits.connections == 100
    assert "100 connections at once, since only" in caplog.text
    with pytest.raises(WrongSetting, match=r"^SUPPORT_CONNECTIONS=101: "):
        fit_connection_limit(Settings.load({"SUPPORT_CONNECTIONS": "101"}))

"""The stop signals and the file descriptor limit of a serving process."""

import asyncio
import logging
import resource
import signal

import pytest

from support_service.core.errors import UserError
from support_service.platform.settings import Settings
from support_service.server import RESERVED_DESCRIPTORS, fit_connection_limit, wait_for_stop_signal


async def test_concurrent_stop_signals_cause_one_stop():
    """The first of several signals that arrive before the loop runs is reported."""
    stopped = asyncio.ensure_future(wait_for_stop_signal())
    await asyncio.sleep(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)
    assert await stopped == "SIGTERM"


def test_default_connection_limit_fits_the_descriptor_limit(monkeypatch, caplog):
    """The default is lowered with a warning; an explicit setting that does not fit is refused."""
    descriptor_limit = RESERVED_DESCRIPTORS + 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptor_limit, descriptor_limit))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        assert fit_connection_limit(Settings.load({})).limits.connections == 100
    assert "100 connections at once, since only" in caplog.text
    with pytest.raises(UserError, match=r"^SUPPORT_CONNECTIONS=101: "):
        fit_connection_limit(Settings.load({"SUPPORT_CONNECTIONS": "101"}))

"""The parts of a service open and close together."""

import asyncio

import pytest
from aiohttp import web

from support_service import service
from support_service.app import build_app
from support_service.core.errors import Unavailable
from support_service.platform.settings import Settings


async def test_failed_start_leaves_nothing_running(environment, timings, monkeypatch):
    """What was opened before the failure is closed, and its background jobs end."""

    async def refuse(*_):
        raise Unavailable("database_unavailable", "It went away.")

    monkeypatch.setattr(service, "read_secret", refuse)
    before = asyncio.all_tasks()
    app, _ = build_app(Settings.load(environment), timings)
    runner = web.AppRunner(app)
    with pytest.raises(Unavailable, match="It went away"):
        await runner.setup()
    await runner.cleanup()
    assert asyncio.all_tasks() == before


async def test_end_leaves_nothing_running(environment, timings):
    """Every part that was opened is closed, and its background jobs end."""
    before = asyncio.all_tasks()
    app, _ = build_app(Settings.load(environment), timings)
    runner = web.AppRunner(app)
    await runner.setup()
    assert len(asyncio.all_tasks()) > len(before)
    await runner.cleanup()
    assert asyncio.all_tasks() == before

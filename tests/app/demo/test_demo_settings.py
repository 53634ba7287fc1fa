"""The demo with settings of the environment, in the test's own process."""

import asyncio
import logging
import signal

from support_service.demo import run as demo
from tests.support.calls import eventually


async def test_demo_uses_a_configured_upstream_service(orders, tmp_path, monkeypatch, capsys, caplog):
    """It does not simulate that service, and it logs warnings about the settings."""
    monkeypatch.chdir(tmp_path)
    # It would replace caplog's handler.
    monkeypatch.setattr("support_service.platform.telemetry.logs.configure_logging", lambda _: None)
    environ = {"SUPPORT_ORDER_URL": orders.url, "OTEL_PROPAGATORS": "b3", "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60"}
    shown = ""

    def welcome_is_printed():
        nonlocal shown
        shown += capsys.readouterr().out
        return "Ctrl-C" in shown

    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(demo.run(environ, 0))
        await eventually(lambda: running.done() or welcome_is_printed())
        assert not running.done(), running.exception()
        signal.raise_signal(signal.SIGTERM)
        await running
    assert "OTEL_PROPAGATORS='b3' is ignored" in caplog.text

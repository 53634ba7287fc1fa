"""Fixtures: telemetry backends and a workload."""

import pytest

from tests.support.servers import MissingServer
from tests.support.telemetry.fixtures import otlp_receiver, port, serve, session, victoria_metrics, workload  # noqa: F401 - fixtures


@pytest.fixture
def start(servers):
    """Start tools of the test, which are closed in turn at its end. The run ends if one is not installed."""
    started = []

    def start(tool, *arguments, **options):
        try:
            started.append(tool(*arguments, **options))
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)
        return started[-1]

    yield start
    for tool in reversed(started):
        tool.close()

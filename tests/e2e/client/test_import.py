"""The client is imported without the service: only models, and what they and aiohttp need."""

import subprocess
import sys

import pytest

from tests.support.process import START_TIMEOUT, environment

pytestmark = pytest.mark.usefixtures("processes")

# The modules of ours that the client may load: packages without content, and modules without I/O.
PARTS = ("api.models", "client", "core")
MODULES = {
    "api",
    "cases",
    "desk",
    "desk.agent_models",
    "desk.bulk_models",
    "desk.macro_models",
    "desk.notification_models",
    "desk.policy_models",
    "desk.view_models",
    "events",
    "events.broker",
    "events.broker.base",
    "guard",
    "platform.http_client",
    "platform",
    "platform.audit",
    "platform.audit.chain",
    "cases.clocks",
    "cases.clocks.calendar",
    "cases.clocks.case_clocks",
    "cases.clocks.policy",
    "desk.customer_models",
    "reports",
    "reports.measures",
    "reports.report_models",
    "timeline",
    "timeline.source_health",
    "timeline.override_rules",
}
FOREIGN = {"aiohttp.web", "alembic", "asyncpg", "cachetools", "cloudevents", "multipart", "obstore", "opentelemetry"}
FOREIGN |= {"prometheus_client", "psutil", "redis", "sqlalchemy", "sqlite3", "uvloop"}


def test_client_does_not_load_the_service():
    program = "import sys; before = {*sys.modules}; import support_service.client; print(*sys.modules.keys() - before)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        timeout=START_TIMEOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(done.stdout.split())
    ours = {name.removeprefix("support_service.") for name in loaded if name.startswith("support_service.")}
    models = {name for name in ours if name.startswith(("cases.model", *(f"{part}." for part in PARTS)))} | {*PARTS}
    assert ours - models - MODULES == set()
    assert loaded & FOREIGN == set()

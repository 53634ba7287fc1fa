"""The client is imported without the service: only models, and what they and aiohttp need."""

import subprocess
import sys

import pytest

from tests.support.process import START_TIMEOUT, environment

pytestmark = pytest.mark.usefixtures("processes")

# The modules of ours that the client may load: packages without content, and modules without I/O.
PARTS = ("api.models", "client", "core")
MODULES = {
    *("api", "cases", "desk", "events", "guard", "platform", "reports", "timeline"),
    *(f"cases.clocks{part}" for part in ("", ".calendar", ".case_clocks", ".policy")),
    *(f"desk.{noun}_models" for noun in ("agent", "bulk", "customer", "macro", "notification", "policy", "view")),
    *("events.broker", "events.broker.base", "platform.http_client", "platform.audit", "platform.audit.chain"),
    *("reports.measures", "reports.report_models", "timeline.source_health", "timeline.override_rules"),
}
FOREIGN = {"aiohttp.web", "alembic", "asyncpg", "cachetools", "cloudevents", "multipart", "obstore", "opentelemetry"}
FOREIGN |= {"prometheus_client", "psutil", "redis", "sqlalchemy", "sqlite3", "uvloop"}


def test_client_does_not_load_the_service():
    program = "import sys; before = {*sys.modules}; import support_service.client; print(*sys.modules.keys() - before)"
    options = {"env": environment(), "timeout": START_TIMEOUT, "text": True}
    loaded = set(subprocess.check_output([sys.executable, "-c", program], **options).split())
    ours = {name.removeprefix("support_service.") for name in loaded if name.startswith("support_service.")}
    models = {name for name in ours if name.startswith(("cases.model", *(f"{part}." for part in PARTS)))} | {*PARTS}
    assert ours - models - MODULES == set()
    assert loaded & FOREIGN == set()

"""The tiers of the test suite, derived from the fixtures that a test uses, and enforced while it runs.

A tier may use everything that lower tiers use. `make test-fast` runs `unit` and `app`, which need no installed server.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

TIERS = {
    "unit": "no server of any kind",
    "app": "the application on SQLite, and fake upstream services, all inside the test's own process",
    "servers": "real servers and tools: Redis, PostgreSQL, S3, Prometheus, promtool, a collector",
    "processes": "`support-service` and other commands as separate processes",
}
ROOTS = {  # the tier of a test that uses one of these fixtures, directly or through another fixture
    "sqlite_template": "app",
    "aiohttp_client": "app",
    "aiohttp_server": "app",
    "make_shared_client": "app",
    "sources": "app",
    "servers": "servers",
    "processes": "processes",
}
BACKENDS = {"postgresql": "servers", "redis": "servers", "s3": "servers"}  # parameters that choose a real server
MAY_START_PROCESSES = ("servers", "processes")
PLACES = {"servers": "tests/integration/", "processes": "tests/e2e/"}
WITHOUT_SERVERS = ("tests/unit/", "tests/app/")  # folders whose tests run anywhere
STARTS = {"subprocess.Popen", "os.posix_spawn", "os.fork"}  # audit events; multiprocessing's forkserver raises none
ORDER = list(TIERS)


class Guard:
    """An audit hook that forbids starting a process unless the test's fixtures declare it."""

    def __init__(self) -> None:
        self.running: pytest.Item | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STARTS or self.running is None:
            return
        tier = tier_of(self.running)
        if tier not in MAY_START_PROCESSES:
            raise AssertionError(
                f"{self.running.nodeid} is in the tier '{tier}' but starts {arguments[0]}: "
                "declare it with the fixture `servers` or `processes` of tests/support/plugins/tiers.py"
            )


guard = Guard()


@pytest.fixture(scope="session")
def servers() -> None:
    """Declare that a fixture starts a real server, or that a test runs a tool such as promtool."""


@pytest.fixture(scope="session")
def processes() -> None:
    """Declare that a test starts `support-service` or another command as a process."""


def tier_of(item: pytest.Item) -> str:
    """Return the highest tier among a test's fixtures and parameters."""
    names = getattr(item, "fixturenames", ())
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    found = [ROOTS[name] for name in names if name in ROOTS]
    found += [BACKENDS[value] for value in parameters if isinstance(value, str) and value in BACKENDS]
    return max(found, key=ORDER.index, default="unit")


def pytest_configure(config: pytest.Config) -> None:
    """Register a marker for each tier, and the guard."""
    for tier, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning}")
    # sys.settrace raises an audit event and must not run concurrently. A hook in Python lets threads switch in between,
    # so a thread that coverage.py traces dies as it starts. `make test` checks the tiers instead.
    if not config.getoption("--cov", default=None):
        sys.addaudithook(guard)  # can't be removed; it does nothing between tests


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier."""
    for item in items:
        item.add_marker(tier_of(item))


@pytest.hookimpl(tryfirst=True)  # before a fixture starts the server
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that needs a server, in a folder whose tests need none. No worker can report it as it collects."""
    tier = tier_of(item)
    if tier in MAY_START_PROCESSES and item.location[0].startswith(WITHOUT_SERVERS):
        pytest.fail(f"it needs {TIERS[tier]}: move it to {PLACES[tier]}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tell the guard which test runs."""
    guard.running = item
    try:
        return (yield)
    finally:
        guard.running = None

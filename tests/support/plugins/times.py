"""What each test costs: printed with `--times`, and written with `--costs FILE` for tests/budget.py.

Each worker measures the CPU time of itself and of all processes below it, so that browsers and servers count. A server
of the whole session (Redis, PostgreSQL) counts in the tests that use it.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

from tests.support import times
from tests.support.digests import digest_of_sources
from tests.support.plugins.tiers import tier_of
from tests.support.times import SERVICES, SETUP, SLEEPS, SLOWNESS, Usage, add, measure_slowness, measured, measured_here

TIMES, COSTS = "--times", "--costs"
SENT_BY_WORKER = "times"
FILES = pytest.StashKey[str]()  # a hash of the files that run
TIER, FOLDER, FILE, TEST = "tier", "folder", "file", "test"
PRINTED = {TIER: 10, FOLDER: 60, SETUP: 30, FILE: 40, TEST: 40}  # rows of each table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption(TIMES, action="store_true", help="print time and CPU time by tier, folder, set-up, file and test")
    parser.addoption(COSTS, metavar="FILE", type=Path, help="write what each test costs, for `python -m tests.budget`")


def pytest_configure(config: pytest.Config) -> None:
    """Measure only with an option; fixtures only to print them."""
    times.enabled = config.getoption(TIMES)
    if _is_measured(config):
        times.count_sleeps()
    config.stash[FILES] = digest_of_sources() if config.getoption(COSTS) else ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Measure a test with its set-up and its end."""
    if not _is_measured(item.config):
        return (yield)
    measure_slowness()
    before = Usage.now()
    try:
        return (yield)
    finally:
        used = before.until_now()
        path = PurePath(item.location[0])
        for table, name in {TIER: tier_of(item), FOLDER: str(path.parent), FILE: str(path), TEST: item.nodeid}.items():
            add(table, name, [1, used.wall, used.cpu])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
    """Measure the set-up of a fixture, without that of the fixtures in its signature."""
    with measured(fixturedef.argname):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)  # inside xdist's wrapper, which sends the output
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Measure the end of a session. A worker sends what it measured to the run, which measures nothing itself."""
    if session.config.pluginmanager.hasplugin("dsession"):
        return (yield)
    with measured("end of the session"):
        result = yield
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[SENT_BY_WORKER] = measured_here
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the run: add what a worker measured."""
    for table, rows in getattr(node, "workeroutput", {}).get(SENT_BY_WORKER, {}).items():
        for name, values in rows.items():
            add(table, name, values)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables, the dearest rows first; write the costs."""
    if hasattr(config, "workerinput"):
        return
    if config.getoption(TIMES):
        for table, most in PRINTED.items():
            rows = sorted(measured_here.get(table, {}).items(), key=lambda row: -row[1][2])
            terminalreporter.write_line(f"\n{'times':>7} {'time, s':>9} {'CPU, s':>9}  {table}")
            for name, (count, seconds, cpu) in rows[:most]:
                terminalreporter.write_line(f"{count:7.0f} {seconds:9.1f} {cpu:9.1f}  {name}")
    if (written := config.getoption(COSTS)) is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        tables = {table: measured_here.get(table, {}) for table in (SLOWNESS, FOLDER, TEST, SLEEPS, SERVICES)}
        written.write_text(json.dumps({"files": config.stash[FILES], **tables}, indent=1))


def _is_measured(config: pytest.Config) -> bool:
    return config.getoption(TIMES) or config.getoption(COSTS) is not None

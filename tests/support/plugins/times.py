"""Where the time of a run goes: `make test-times` prints it by folder, by set-up and by file.

Each worker measures wall time, and the CPU time of its own process and of the processes that ended meanwhile. A server
of the whole session (Redis, PostgreSQL) counts when it is stopped, in the row "end of the session".
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import pytest

from tests.support import times
from tests.support.times import SETUP, add, measured, measured_here

OPTION = "--times"
SENT_BY_WORKER = "times"
FOLDER, FILE = "folder", "file"
ROWS = {FOLDER: 60, SETUP: 30, FILE: 40}
COUNTED = {FOLDER: "tests", SETUP: "times", FILE: "tests"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(OPTION, action="store_true", help="print wall and CPU time by folder, by set-up and by file")


def pytest_configure(config: pytest.Config) -> None:
    """Measure only with the option."""
    times.enabled = config.getoption(OPTION)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Measure a test with its set-up and its end."""
    path = PurePath(item.location[0])
    with measured(str(path), FILE), measured(str(path.parent), FOLDER):
        return (yield)


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
    """Print the tables, the slowest rows first."""
    if not config.getoption(OPTION):
        return
    for table, most in ROWS.items():
        rows = sorted(measured_here.get(table, {}).items(), key=lambda row: -row[1][1])
        terminalreporter.write_line(f"\n{COUNTED[table]:>7} {'wall, s':>9} {'CPU, s':>9}  {table}")
        for name, (count, wall, cpu) in rows[:most]:
            terminalreporter.write_line(f"{count:7.0f} {wall:9.1f} {cpu:9.1f}  {name}")

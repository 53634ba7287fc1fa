"""When a test runs: in each run or, with the marker `long`, if it is named or with `--all`."""

from pathlib import Path

import pytest

ALL, LONG = "--all", "long"
TESTS = Path(__file__).parents[2]
TIERS = {TESTS, *(TESTS / tier for tier in ("unit", "app", "integration", "e2e"))}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(ALL, action="store_true", help="also run long tests")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{LONG}: takes seconds or minutes, and runs in `make test-all`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long tests, unless tests are named on the command line."""
    if not _runs_all(config):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker(LONG)])
        items[:] = [item for item in items if not item.get_closest_marker(LONG)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say that tests were left out."""
    if not _runs_all(config):
        terminalreporter.write_line("Long tests are left out: `make test-all` runs them")


def _runs_all(config: pytest.Config) -> bool:
    """Return whether long tests run too. Somebody names tests by a path below a tier or by `-k`."""
    places = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    named = config.getoption("keyword") or not {place.resolve() for place in places} <= TIERS
    return config.getoption(ALL) or bool(named)

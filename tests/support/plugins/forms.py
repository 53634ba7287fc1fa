"""When a test runs: in each run, when its inputs have changed, or with `--all` only.

tests/forms.toml names groups of tests that read files which seldom change, such as the rules of Prometheus, and these
files. A group is left out while its files are the same as when it passed. tests/passed.json has their hashes, and is
committed with the change that it was written for. A test with the marker `long` runs with `--all`.
"""

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ALL, RECORD = "--all", "--record-passed"
LONG = "long"
ROOT = Path(__file__).parents[3]
GROUPS, PASSED = ROOT / "tests/forms.toml", ROOT / "tests/passed.json"
LEFT_OUT = pytest.StashKey[Counter[str]]()
COLLECTED = pytest.StashKey[dict[str, bool]]()  # tests of groups, and whether each is long
SENT_BY_WORKER = ("left out", "collected")
TIERS = {ROOT / "tests", *(ROOT / "tests" / tier for tier in ("unit", "app", "integration", "e2e"))}
NOT_READ = ("__pycache__",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption(ALL, action="store_true", help="also run long tests, and groups whose inputs have not changed")
    parser.addoption(RECORD, action="store_true", help="record in tests/passed.json the inputs of groups that pass")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{LONG}: takes seconds or minutes, and runs in `make test-all`")
    config.stash[LEFT_OUT] = Counter()
    config.stash[COLLECTED] = {}
    config.pluginmanager.register(Recorder(config), "recorder of passed groups")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not run now, unless it is named on the command line."""
    if config.getoption(ALL) or _names_tests(config):
        return
    passed = _passed()
    unchanged = {group for group in groups() if passed.get(group) == digest(group)}
    left_out = config.stash[LEFT_OUT]
    chosen, others = [], []
    for item in items:
        group = group_of(item.location[0])
        reason = LONG if item.get_closest_marker(LONG) else group if group in unchanged else None
        (chosen if reason is None else others).append(item)
        if reason is not None:
            left_out[reason] += 1
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker: tell the run what was collected and left out. All workers collect and leave out the same."""
    if hasattr(session.config, "workeroutput"):
        left_out, collected = SENT_BY_WORKER
        session.config.workeroutput[left_out] = dict(session.config.stash[LEFT_OUT])
        session.config.workeroutput[collected] = session.config.stash[COLLECTED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the run: take what a worker collected and left out."""
    left_out, collected = (getattr(node, "workeroutput", {}).get(name, {}) for name in SENT_BY_WORKER)
    node.config.stash[LEFT_OUT] |= Counter(left_out)
    node.config.stash[COLLECTED] |= collected


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was left out, and why."""
    for reason, count in sorted(config.stash[LEFT_OUT].items()):
        why = "they are long" if reason == LONG else "their inputs are those with which they passed"
        terminalreporter.write_line(f"Left out {count} tests ({reason}), because {why}: `make test-all` runs them")


class Recorder:
    """Notes in the run which tests of groups pass, and records the inputs of the groups of which all do."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._enabled = config.getoption(RECORD) and not hasattr(config, "workerinput")
        self._before = {group: digest(group) for group in groups()} if self._enabled else {}
        self._ran: set[str] = set()
        self._failed: set[str | None] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the tests of groups before any of them is left out or deselected."""
        of_groups = (item for item in items if group_of(item.nodeid) is not None)
        self._config.stash[COLLECTED] = {item.nodeid: bool(item.get_closest_marker(LONG)) for item in of_groups}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        self._ran.add(report.nodeid)
        if report.failed:
            self._failed.add(group_of(report.nodeid))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Record the inputs of each group that passed. A file that was changed meanwhile keeps its group unrecorded."""
        if not self._enabled or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        digest.cache_clear()
        passed = {
            group: before
            for group, before in self._before.items()
            if group not in self._failed and self._has_run(group) and before == digest(group)
        }
        kept = {group: value for group, value in _passed().items() if group in groups()}
        PASSED.write_text(json.dumps(kept | passed, indent=1, sort_keys=True) + "\n")

    def _has_run(self, group: str) -> bool:
        """Return whether all modules of a group were collected, and all their tests ran, except long ones."""
        collected = {
            test: is_long for test, is_long in self._config.stash[COLLECTED].items() if group_of(test) == group
        }
        if {test.partition("::")[0] for test in collected} != _modules(group):
            return False
        some_of_a_module = any("::" in argument for argument in self._config.args)
        return not some_of_a_module and {test for test, is_long in collected.items() if not is_long} <= self._ran


@cache
def groups() -> dict[str, dict[str, list[str]]]:
    """Return the groups of tests/forms.toml by their names."""
    return tomllib.loads(GROUPS.read_text())


def group_of(path: str) -> str | None:
    """Return the group of a test module, which is given as its path from the root."""
    return next((name for name, each in groups().items() if path.startswith(tuple(each["tests"]))), None)


@cache
def digest(group: str) -> str:
    """Return a hash of all files that a group reads, and of its tests."""
    found = hashlib.sha256()
    for file in sorted(set(_files(groups()[group]))):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(ROOT)} {content}\n".encode())
    return found.hexdigest()[:32]


def _files(group: dict[str, list[str]]) -> Iterator[Path]:
    for name in (*group["tests"], *group["inputs"]):
        path = ROOT / name
        found = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        if not found:
            raise pytest.UsageError(f"tests/forms.toml: {name} does not exist")
        yield from (file for file in found if not set(NOT_READ) & set(file.parts))


def _modules(group: str) -> set[str]:
    """Return the test modules of a group, as paths from the root."""
    files = {file.relative_to(ROOT).as_posix() for file in _files(groups()[group]) if file.match("test_*.py")}
    return {file for file in files if group_of(file) == group}


def _passed() -> dict[str, str]:
    return json.loads(PASSED.read_text()) if PASSED.exists() else {}


def _names_tests(config: pytest.Config) -> bool:
    """Return whether somebody asks for some tests, by a path below a tier or by `-k`: then these run."""
    places = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return bool(config.getoption("keyword")) or not {place.resolve() for place in places} <= TIERS

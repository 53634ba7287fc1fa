"""What the budget of the tests finds, and says to do."""

import json

import pytest

from tests.budget import SIZES, Costs, doubts, over, sizes, too_large, written
from tests.support.digests import digest, digest_of_sources

BUDGET = {"whole": {"cpu": 10, "cases": 50}, "size": {}, "walks": {}, "long": {}, "cases": {}, "services": {}}
BUDGET["folder"] = {"tests/unit/a": {"cpu": 10.0, "cases": 50}}


@pytest.fixture
def costs(tmp_path):
    """Read the costs of a run of one folder, on a machine that takes `slowness` times as long."""

    def read(cpu, tests, services=(), sleeps=(), slowness=1.0, files=""):
        tables = {
            "files": files,
            "slowness": {"slowness": [2, 0, 2 * slowness]},
            "folder": {"tests/unit/a": [len(tests), cpu, cpu]},
            "test": {test: [1, 100, seconds] for test, seconds in tests.items()},
            "sleeps": {test: [1, seconds, 0] for test, seconds in sleeps},
            "services": {module: [count, 0, 0] for module, count in services},
        }
        file = tmp_path / "costs.json"
        file.write_text(json.dumps(tables))
        return Costs.read([file])

    return read


def test_run_within_its_budget_is_accepted(costs):
    """A tenth more is accepted. On a slow machine all but sleeps takes longer. Seconds on the wall do not count."""
    assert [*over(costs(10.9, {"a::test": 4.9}), BUDGET)] == []
    assert [*over(costs(21, {"a::test": 8}, sleeps=[("a::test", 0.9)], slowness=2), BUDGET)] == []


def test_dear_folder_is_named(costs):
    """The folder and the whole cost too much, and have too many tests."""
    found = over(costs(12, {f"a.py::test_{number}": 0.1 for number in range(56)}), BUDGET)
    assert [line.partition(":")[0] for line in found] == ["All tests"] * 2 + ["tests/unit/a"] * 2


def test_costs_of_other_files_or_of_some_tests_are_not_believed(costs, tmp_path):
    """A changed, renamed or new file is another one. The budget itself, and what Python compiled, are not."""
    tests = {f"a.py::test_{number}": 0.1 for number in range(46)}
    now = digest_of_sources()
    assert [*doubts(costs(10, tests, files=now), BUDGET)] == []
    assert [*doubts(costs(10, tests), BUDGET)] == [
        "The costs in build/ are of other files than these. Run `make test`."
    ]
    assert [*doubts(costs(10, {"a.py::test": 1}, files=now), BUDGET)] == [
        "The costs are of 1 of 50 tests. Run `make test` without ARGS."
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    found = []
    for change in (
        lambda: (folder / "a.toml").write_text("a"),
        lambda: (folder / "a.toml").write_text("b"),
        lambda: (folder / "a.toml").rename(folder / "b.toml"),
        lambda: (folder / "budget.toml").write_text(""),
        lambda: (folder / "a.pyc").write_text(""),
    ):
        change()
        found.append(digest(folder, without="budget.toml"))
    assert (len({*found[:3]}), {*found[2:]}) == (3, {found[2]})


def test_size_above_its_budget_is_named_with_what_to_do():
    """Each kind counts something, and has its advice. One per cent more is accepted."""
    found = sizes()
    assert ([*found], min(found.values()) > 0, [*too_large(found, found)]) == ([*SIZES], True, [])
    assert [*too_large(found | {"settings": 2_020}, found | {"settings": 2_000})] == []
    assert [*too_large(found | {"settings": 2_021}, found | {"settings": 2_000})] == [
        "2,021 settings, allowed are 2,000 and one per cent. Make the new one a constant, or one that nobody sets."
    ]


def test_slow_test_many_cases_and_many_services_are_named_with_what_to_do(costs):
    """A reason in the budget accepts each."""
    tests = {"a.py::test_slow": 4} | {f"a.py::test_cases[{number}]": 0.1 for number in range(40)}
    found = costs(20, tests, services=[("a.py", 6)], sleeps=[("a.py::test_slow", 4)], slowness=2)
    assert [line.partition(". ")[0] for line in over(found, BUDGET)] == [
        "a.py::test_slow: 6 seconds of CPU and sleep, allowed are 5",
        "a.py::test_cases: 40 cases, allowed are 30",
        "a.py: 6 services, allowed are 5",
    ]
    reasons = {"long": {"a.py::test_slow": ""}, "cases": {"a.py::test_cases": ""}, "services": {"a.py": ""}}
    assert [*over(found, BUDGET | reasons)] == []


def test_written_budget_keeps_its_reasons(costs):
    """The numbers of folders are new, and reasons stay as they were."""
    text = written(costs(3.14, {"a.py::test": 1}), BUDGET | {"long": {"a.py::test": "It kills servers."}})
    assert '"tests/unit/a" = { cpu = 4.1, cases = 1 }' in text
    assert '"a.py::test" = "It kills servers."' in text

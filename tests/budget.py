"""Compares with tests/budget.toml what a run of the tests cost, and the size of the project. It fails above.

Costs may be a tenth above, and sizes one per cent. `make test` writes costs, and `make test-budget` compares them. A
slow or busy machine fails nothing. A process of a run times a fixed work. CPU seconds are divided by how many times
longer it took than on the machine of the budget. The seconds of a test are its CPU seconds, and the seconds that its
sleeps ask for.
"""

import argparse
import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.digests import digest_of_sources

PATH = Path(__file__).with_name("budget.toml")
ROOT = PATH.parents[1]
MARGIN = 1.1  # of costs
ROOM = 1.01  # of sizes, so that a failure does not mean a line that nobody could leave out
LEAST = 1.0  # CPU seconds above which a folder may be: small sums vary more
SPARE = 1.3  # what `--write` allows a folder, as the costs of a run vary; the whole has no spare
# What no test may exceed without a reason: the most, its unit, and what to do instead.
LIMITS = {
    "long": (5.0, "seconds of CPU and sleep", "Make the test shorter, or mark it as `long`"),
    "cases": (30.0, "cases", "Loop over them with `subtests`"),
    "services": (5.0, "services", "Share one with `shared_client`"),
}
SIZES = {
    "lines of tests": "Merge tests that show one promise",
    "lines of src": "Delete what the change makes unnecessary, or say a thing once and derive the rest",
    "files of src": "Put a small module where its only reader is",
    "settings": "Make the new one a constant, or one that nobody sets",
    "words of docs": "Link to the page that says it, or leave out what the code and `--help` say",
}
WALKS_HEAD = "# Files and functions that a request passes: tests/integration/platform/test_walks.py"
HEAD = """\
# What the tests of `make test` may cost, and how large the project may be. Costs fail a tenth above, sizes 1 %.
# Make tests cheaper before you raise a number: lower tiers, one service for a module, one visit that shows several
# promises. `python -m tests.budget --write` writes the numbers of folders after `make test`. Other numbers and reasons
# are written by hand. A higher number is a commit of its own, which has the reason.
"""


@dataclass(frozen=True)
class Costs:
    """What a run cost: CPU seconds and tests by folder, tests by function, seconds and sleeps by test, its files."""

    cpu: dict[str, float]
    cases: Counter[str]
    cases_of_functions: Counter[str]
    seconds: dict[str, float]
    services: dict[str, float]
    digests: set[str]

    @property
    def whole(self) -> float:
        """CPU seconds of all tests."""
        return sum(self.cpu.values())

    @classmethod
    def read(cls, files: list[Path]) -> "Costs":
        """Return the costs that runs have written together."""
        cpu: defaultdict[str, float] = defaultdict(float)
        cases, functions = Counter[str](), Counter[str]()
        seconds: defaultdict[str, float] = defaultdict(float)
        services: defaultdict[str, float] = defaultdict(float)
        digests = set()
        for file in files:
            tables = json.loads(file.read_text())
            digests.add(tables.get("files", ""))
            measured, _, sum_of_slowness = tables["slowness"]["slowness"]
            slowness = max(1.0, sum_of_slowness / measured)
            for folder, (count, _, used) in tables["folder"].items():
                cases[folder] += int(count)
                cpu[folder] += used / slowness
            for test, (_, _, used) in tables["test"].items():
                _, slept, _ = tables["sleeps"].get(test, (0, 0, 0))
                function = test.partition("[")[0]
                functions[function] += 1
                seconds[function] = max(seconds[function], used / slowness + slept)
            for module, (count, _, _) in tables["services"].items():
                services[module] += count
        return cls(dict(cpu), cases, functions, dict(seconds), dict(services), digests)


def main() -> int:
    """Compare the costs with the budget, or write it; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.budget", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="what `--costs` of pytest has written; build/costs*.json")
    parser.add_argument("--write", action="store_true", help="write what the tests cost now as their budget")
    options = parser.parse_args()
    files = options.files or sorted(Path("build").glob("costs*.json"))
    if not files:
        parser.error("no costs in build/: run `make test` first")
    costs = Costs.read(files)
    budget = tomllib.loads(PATH.read_text())
    if reasons := [*doubts(costs, budget)]:
        parser.error(" ".join(reasons))
    if options.write:
        PATH.write_text(written(costs, budget))
        return 0
    print(f"CPU: {costs.whole:.0f} of {budget['whole']['cpu']} s for {costs.cases.total()} tests")
    found = [*over(costs, budget), *too_large(sizes(), budget["size"])]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


def doubts(costs: Costs, budget: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence if files have changed since a run, or if it left out tests."""
    if costs.digests != {digest_of_sources()}:
        yield "The costs in build/ are of other files than these. Run `make test`."
    tests = sum(folder["cases"] for folder in budget["folder"].values())
    if costs.cases.total() * MARGIN < tests:
        yield f"The costs are of {costs.cases.total()} of {tests} tests. Run `make test` without ARGS."


def over(costs: Costs, budget: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each part of the budget that a run exceeds, with what to do."""
    cheaper = "Move tests to a lower tier, share a service or a visit, or raise the number in tests/budget.toml"
    whole = budget["whole"]
    if costs.whole > MARGIN * whole["cpu"]:
        yield f"All tests: {costs.whole:.0f} s of CPU, allowed are {whole['cpu']}. {cheaper}."
    if costs.cases.total() > MARGIN * whole["cases"]:
        yield f"All tests: {costs.cases.total()} tests, allowed are {whole['cases']}. {cheaper}."
    for folder, cpu in sorted(costs.cpu.items()):
        allowed = budget["folder"].get(folder, {"cpu": 0, "cases": 0})
        if cpu > max(MARGIN * allowed["cpu"], allowed["cpu"] + LEAST):
            yield f"{folder}: {cpu:.1f} s of CPU, allowed are {allowed['cpu']}. {cheaper}."
        if costs.cases[folder] > MARGIN * allowed["cases"]:
            yield f"{folder}: {costs.cases[folder]} tests, allowed are {allowed['cases']}. {cheaper}."
    for table, used in {"long": costs.seconds, "cases": costs.cases_of_functions, "services": costs.services}.items():
        most, unit, instead = LIMITS[table]
        for name, value in sorted(used.items()):
            if value > most and name not in budget[table]:
                yield (
                    f"{name}: {value:.3g} {unit}, allowed are {most:g}. "
                    f"{instead}, or say why not in [{table}] of tests/budget.toml."
                )


def sizes() -> dict[str, int]:
    """Return the size of the project for each kind in SIZES."""
    tests, source = ([*(ROOT / folder).rglob("*.py")] for folder in ("tests", "src"))
    settings = (ROOT / "docs/configuration.md").read_text()
    return {
        "lines of tests": sum(len(file.read_text().splitlines()) for file in tests),
        "lines of src": sum(len(file.read_text().splitlines()) for file in source),
        "files of src": len(source),
        "settings": len(re.findall(r"^\| `[A-Z0-9_]+`", settings, re.MULTILINE)),
        "words of docs": sum(len(file.read_text().split()) for file in (ROOT / "docs").rglob("*.md")),
    }


def too_large(found: dict[str, int], allowed: dict[str, int]) -> Iterator[str]:
    """Yield a sentence for each size that is above its budget, with what to do."""
    for kind, size in found.items():
        if size > ROOM * allowed[kind]:
            yield f"{size:,} {kind}, allowed are {allowed[kind]:,} and one per cent. {SIZES[kind]}."


def written(costs: Costs, budget: dict[str, Any]) -> str:
    """Return the budget of what tests cost now, with the reasons that it had."""
    whole = budget["whole"]
    lines = [HEAD, "[whole]", f"cpu = {whole['cpu']}", f"cases = {whole['cases']}"]
    lines += ["", "[size]", *(f'"{kind}" = {size}' for kind, size in budget["size"].items())]
    lines += [
        "",
        WALKS_HEAD,
        "[walks]",
        *(f'"{name}" = {{ {_pairs(most)} }}' for name, most in budget["walks"].items()),
    ]
    lines += ["", "[folder]"]
    lines += [
        f'"{folder}" = {{ {_pairs({"cpu": round(SPARE * cpu, 1), "cases": costs.cases[folder]})} }}'
        for folder, cpu in sorted(costs.cpu.items())
    ]
    for table, (most, unit, _) in LIMITS.items():
        lines += ["", f"# Over {most:g} {unit}, and why.", f"[{table}]"]
        lines += [f"{json.dumps(name)} = {json.dumps(reason)}" for name, reason in sorted(budget[table].items())]
    return "\n".join(lines) + "\n"


def _pairs(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} = {number}" for name, number in numbers.items())


if __name__ == "__main__":
    sys.exit(main())

"""Runs the tests that run what has changed: since HEAD or, if nothing is uncommitted, since the merge base with main.

A record says which tests run which functions. `--record` makes it with coverage.py. It knows functions by name, so that
it helps until many have moved. Processes that a test starts are not in it: `make test` runs tests/e2e/.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import coverage

RECORD, FOLDER = Path("build/near.json"), Path("build/near")
SERVICE, STATIC = "src/support_service/", "src/support_service/console/static/"
TIERS = ("unit", "app", "integration")
NO_TESTS_RAN = 5  # exit status of pytest
UNKNOWN = 1.0  # CPU seconds of a test that is not in the record
WITH_WORKERS = 5  # CPU seconds of tests from which starting workers saves time
COVERAGE = "[run]\nparallel = true\ninclude =\n  src/support_service/*\n  tests/support/*\n  */conftest.py\n"
Parts = dict[str, str]


@dataclass
class Record:
    """Which tests run a function, by file and qualified name; CPU seconds of each test; the commit of the record.

    A test is one function, with all its parameters.
    """

    commit: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Record":
        """Return the record, which is empty if there is none."""
        if not RECORD.exists():
            return cls()
        found = json.loads(RECORD.read_text())
        names = [*found["seconds"]]
        tests = {
            path: {part: [names[number] for number in numbers] for part, numbers in parts.items()}
            for path, parts in found["tests"].items()
        }
        return cls(found["commit"], found["seconds"], tests)

    def write(self) -> None:
        """Write the record, with a number for each test."""
        numbers = {name: number for number, name in enumerate(self.seconds)}
        tests = {
            path: {part: [numbers[name] for name in names if name in numbers] for part, names in parts.items()}
            for path, parts in self.tests.items()
        }
        RECORD.write_text(json.dumps({"commit": self.commit, "seconds": self.seconds, "tests": tests}))

    def of(self, path: str, part: str) -> set[str]:
        """Return the tests that run a part of a file. What runs at an import concerns the tests of all parts in it."""
        around = part == "" or part.endswith(".")
        run = [
            tests
            for name, tests in self.tests.get(path, {}).items()
            if name == part or (around and name.startswith(part))
        ]
        return existing(set().union(*run))


@dataclass
class Choice:
    """Tests with what they say of a change: the more, the sooner a test runs. `always` are files that run whole."""

    always: list[str] = field(default_factory=list)
    weights: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    reasons: list[str] = field(default_factory=list)

    def add(self, why: str, tests: Iterable[str]) -> None:
        """Add tests. Of a part that few tests run, each says more."""
        tests = {*tests}
        self.reasons.append(f"{why}: {len(tests)} tests")
        for test in tests:
            self.weights[test] += 1 / len(tests)

    def within(self, seconds: float, record: Record) -> tuple[list[str], list[str], float]:
        """Return the tests that run within CPU seconds, and all others. First run tests that say most in their time.

        The last value is the CPU seconds of the tests.
        """
        left = [test for test in self.weights if test.partition("::")[0] not in self.always]
        cost = {test: record.seconds.get(test, UNKNOWN) for test in left}
        chosen, others, total = [], [], 0.0
        for test in sorted(left, key=lambda test: (cost[test] / self.weights[test], test)):
            fits = total + cost[test] <= seconds
            (chosen if fits else others).append(test)
            total += cost[test] if fits else 0
        return chosen, others, total


def main() -> int:
    """Make the record, or choose tests and run them; return the exit status."""
    summary, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser("make test-near", description=summary, epilog=details)
    parser.add_argument("base", nargs="?", help="compare with the merge base with this branch or commit")
    parser.add_argument("--record", action="store_true", help="run all tests but tests/e2e/, and record what they run")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of tests to run, as they were recorded")
    options = parser.parse_args()
    if options.record:
        return make_record([options.base] if options.base else [f"tests/{tier}" for tier in TIERS])
    base, since = base_of(options.base)
    changed = [*changed_files(base)]
    if not changed:
        print(f"Nothing has changed since {since}.")
        return 0
    record = Record.read()
    print(f"Files that have changed since {since}: {len(changed)}. {age_of(record)}")
    choice = choose(changed, record, lambda path: git("show", f"{base}:{path}"))
    print(*choice.reasons, sep="\n")
    chosen, others, seconds = choice.within(options.seconds, record)
    print(f"{len(chosen)} tests of {seconds:.0f} CPU s, and {len(choice.always)} changed files of tests.")
    if others:
        print(
            f"{len(others)} more tests run what has changed, and say less of it in their time: `make test` runs them."
        )
    return run([*choice.always, *chosen], seconds)


def git(*arguments: str) -> str:
    """Return what a command of git prints; nothing if it fails."""
    return subprocess.run(("git", *arguments), text=True, capture_output=True, check=False).stdout


def base_of(branch: str | None) -> tuple[str, str]:
    """Return the commit with which the tree is compared, and what to call it.

    Raises SystemExit if there is no merge base with the branch.
    """
    if branch is None and git("status", "--porcelain"):
        return "HEAD", "HEAD"
    names = [branch] if branch else ["main", "origin/main"]
    for name in names:
        if base := git("merge-base", "HEAD", name).strip():
            return base, f"the merge base with {name}"
    raise SystemExit(f'There is no merge base with {names[0]}. Name a branch: make test-near ARGS="BRANCH"')


def changed_files(base: str) -> Iterator[str]:
    """Yield the files that differ from a commit, also files that git does not know yet."""
    yield from git("diff", "--name-only", "--no-renames", base).splitlines()
    yield from git("ls-files", "--others", "--exclude-standard").splitlines()


def age_of(record: Record) -> str:
    """Return a sentence on the record, with what to do."""
    how = "`make test-near ARGS=--record` makes one, which takes about twice as long as `make test`"
    if not record.commit:
        return f"There is no record of what tests run, so that the folders of the packages run. {how}."
    commits = git("rev-list", "--count", f"{record.commit}..HEAD").strip() or "unknown"
    return f"The record is {commits} commits old." + (f" {how}." if len(commits) > 2 else "")


def choose(changed: Iterable[str], record: Record, before: Callable[[str], str]) -> Choice:
    """Return the tests of changed files. `before` gives what a file was."""
    choice = Choice()
    for path in changed:
        is_test = Path(path).name.startswith("test_") and path.startswith("tests/")
        if path.endswith(".py") and is_test:
            if Path(path).exists():
                choice.always.append(path)
        elif path.endswith(".py") and path.startswith((SERVICE, "tests/")):
            add_module(choice, path, record, before(path))
        else:
            add_input(choice, path)
    return choice


def add_module(choice: Choice, path: str, record: Record, source_before: str) -> None:
    """Add the tests of a module's changed functions. If none is recorded, add the tests of its package's folders."""
    now = parts_of(text_of(path))
    before = parts_of(source_before)
    different = sorted(name for name in now.keys() | before.keys() if now.get(name, "") != before.get(name, ""))
    found = {name: record.of(path, name) for name in different}
    for name, tests in found.items():
        if tests:
            choice.add(f"{path} {name.rstrip('.') or 'at its import'}", tests)
    if different and not any(found.values()):
        package = path.removeprefix(SERVICE).split("/")[:-1] if path.startswith(SERVICE) else []
        if path.endswith("conftest.py"):
            modules = [*Path(path).parent.rglob("test_*.py")]
        elif package:
            modules = [file for tier in TIERS for file in Path("tests", tier, package[0]).rglob("test_*.py")]
        else:
            name = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
            modules = [file for file in modules_of_tests() if f"from {name} import" in file.read_text()]
        choice.add(
            f"{path}, whose functions no recorded test runs", (test for file in modules for test in tests_in(file))
        )


def add_input(choice: Choice, path: str) -> None:
    """Add the tests of another file: its page of the console, or the modules that name it, or else its first folder."""
    modules, read_by = modules_of_tests(), []
    if path.startswith(STATIC):
        modules = [file for file in modules if file.parent.name == "console"]
        page = Path(path).stem.partition("-")[0]
        read_by = [file for file in modules if page in file.stem.split("_")] or [
            file for file in modules if Path(path).stem in file.read_text()
        ]
        read_by = read_by or modules
    elif not (path.startswith("docs/") and path.endswith(".md")):
        for name in (Path(path).name, path.partition("/")[0]):
            read_by = read_by or [file for file in modules if name in file.read_text()]
    if read_by:
        choice.add(path, (test for file in read_by for test in tests_in(file)))


def modules_of_tests() -> list[Path]:
    """Return the test modules of all tiers but the last."""
    return [file for tier in TIERS for file in Path("tests", tier).rglob("test_*.py")]


def parts_of(source: str) -> Parts:
    """Return the code of functions and methods by name, and that of classes ("Name.") and of the module ("") around."""
    found: Parts = defaultdict(str)
    for name, node in nodes_of(ast.parse(source)):
        found[name] += ast.dump(node)
    return found


def nodes_of(scope: ast.Module | ast.ClassDef, name: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the statements of a scope with the name of their part."""
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from nodes_of(node, f"{name}{node.name}.")
            for each in (*node.bases, *node.keywords, *node.decorator_list):
                yield f"{name}{node.name}.", each
        else:
            yield name, node


def tests_in(file: Path) -> list[str]:
    """Return the tests of a module, without long ones."""
    long = re.compile(r"mark\.long\b")
    tree = ast.parse(file.read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign)]
    if any(isinstance(node, ast.Assign) and long.search(ast.unparse(node)) for node in found):
        return []
    return [
        f"{file}::{node.name}"
        for node in found
        if not isinstance(node, ast.Assign) and node.name.startswith("test_")
        if not any(long.search(ast.unparse(each)) for each in node.decorator_list)
    ]


def existing(tests: set[str]) -> set[str]:
    """Return the recorded tests that are still there."""
    texts = {path: text_of(path) for path in {test.partition("::")[0] for test in tests}}
    return {test for test in tests if f"def {test.rpartition('::')[2]}(" in texts[test.partition("::")[0]]}


def text_of(path: str) -> str:
    """Return the text of a file, which is empty if there is none."""
    return Path(path).read_text() if Path(path).exists() else ""


def run(tests: list[str], seconds: float) -> int:
    """Run tests, and return the exit status. No test is no failure."""
    if not tests:
        print("No test runs what has changed.")
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = FOLDER / "tests.txt"
    names.write_text("\n".join(tests))
    workers = (os.cpu_count() or 1) if seconds > WITH_WORKERS else 0
    status = pytest(f"--numprocesses={workers}", "--dist=worksteal", f"@{names}")
    return 0 if status == NO_TESTS_RAN else status


def make_record(tests: list[str]) -> int:
    """Run tests, write which functions they run, and return the exit status. A test that fails is recorded too."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "coveragerc").write_text(COVERAGE)
    measuring = ("--cov", f"--cov-config={FOLDER}/coveragerc", "--cov-context=test", "--cov-report=")
    workers = (f"--numprocesses={os.cpu_count()}", "--dist=worksteal", "--timeout=900", f"--costs={FOLDER}/costs.json")
    commit = git("rev-parse", "HEAD").strip()
    status = pytest(*workers, *measuring, *tests, COVERAGE_FILE=str(FOLDER / "coverage"))
    if status not in (0, 1):
        return status
    record = Record(commit)
    for name, (_, _, cpu) in json.loads((FOLDER / "costs.json").read_text())["test"].items():
        function = name.partition("[")[0]
        record.seconds[function] = round(record.seconds.get(function, 0) + cpu, 3)
    data = coverage.CoverageData(str(FOLDER / "coverage"))
    data.read()
    for file in data.measured_files():
        path = os.path.relpath(file)
        by_line = data.contexts_by_lineno(file)
        record.tests[path] = {
            name: sorted({context.partition("|")[0].partition("[")[0] for line in lines for context in by_line[line]})
            for name, lines in lines_of(Path(path).read_text(), by_line).items()
        }
    record.write()
    print(f"{len(record.seconds)} tests are recorded in {RECORD}.")
    return status


def lines_of(source: str, lines: Iterable[int]) -> dict[str, list[int]]:
    """Return which of some lines are in the body of each function."""
    bodies = {
        name: range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for name, node in nodes_of(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {name: found for name, body in bodies.items() if (found := [line for line in lines if line in body])}


def pytest(*arguments: str, **variables: str) -> int:
    """Run pytest, and return its exit status."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

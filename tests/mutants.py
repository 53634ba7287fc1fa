"""Changes the service in one place at a time, and prints the changes that no test notices.

mutmut makes the changes, and coverage.py tells which tests execute a line. They run in copies of the tree, the
most promising first, until one fails. What they execute is recorded again after any change of a file. A
process that a test starts counts as a part of it, if it ends by itself: coverage.py records nothing of one that is
killed.
"""

import argparse
import ast
import contextlib
import difflib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree as ET

import coverage
import libcst as cst
import psutil
from libcst import matchers
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators
from tqdm import tqdm

from tests.support.digests import digest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build/mutants"
NOT_COPIED = ("build", "var", ".git", ".venv", "node_modules", "__pycache__", ".*_cache", ".hypothesis", ".coverage*")
FIRST_TESTS = 25  # most mutants are found by one of them, and the other tests need not be imported
HANGING = 60  # seconds for one test; then it has found the mutant
MEMORY = 8 << 30  # bytes of data of one process: some mutants collect without end, and Chromium reserves more addresses
PHASE = re.compile(r"\|\w+$| \(\w+\)$")  # of a test: in a context of pytest-cov, or in the variable of pytest
TIERS = ("unit", "app", "integration", "e2e")
TESTS_FAILED, NO_TESTS_RAN = 1, 5  # exit statuses of pytest


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    path: str
    line: int
    original: str
    code: str

    @property
    def diff(self) -> str:
        lines = difflib.unified_diff(self.original.splitlines(), self.code.splitlines(), lineterm="", n=1)
        return "\n".join(list(lines)[2:])


def main() -> int:
    """Run tests with each mutant of a sample, and return the exit status."""
    options = parse_arguments()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    files = sorted({file for path in options.paths for file in modules_of(path)})
    mutants = sample(files, options.sample, options.seed)
    trees = [copy_tree(FOLDER / str(number)) for number in range(options.jobs)]
    record = read_record(trees[0], files, options)
    idle = SimpleQueue[Path]()
    for tree in trees:
        idle.put(tree)

    def run(mutant: Mutant) -> tuple[int, str | None]:
        tests, tree = record.tests_of(mutant, options.seconds), idle.get()
        try:
            return len(tests), find(mutant, tests, tree)
        finally:
            idle.put(tree)

    survivors = 0
    with (
        ThreadPoolExecutor(len(trees)) as pool,
        tqdm(total=len(mutants), unit=" mutants", dynamic_ncols=True) as progress,
        (FOLDER / "outcomes.jsonl").open("w", buffering=1) as outcomes,
    ):
        tested = {pool.submit(run, mutant): mutant for mutant in mutants}
        for future in as_completed(tested):
            mutant, (number, found_by) = tested[future], future.result()
            place = f"{mutant.path}:{mutant.line}"
            outcomes.write(json.dumps([place, mutant.diff, number, found_by]) + "\n")
            if found_by is None:
                survivors += 1
                passed = f"{number} tests pass" if number else "no test executes it"
                progress.write(f"\n{place}: {passed}\n{mutant.diff}")
            progress.update()
    share = 100 * (1 - survivors / len(mutants))
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants are found: {share:.1f} %")
    return 0 if share >= options.at_least else 1


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    summary, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser("make mutants", description=summary, epilog=details)
    parser.add_argument(
        "paths", nargs="*", default=["src/support_service"], help="modules and folders that are changed"
    )
    parser.add_argument("--sample", type=int, default=50, help="number of places; each gets one change")
    parser.add_argument("--seed", type=int, default=1, help="chooses the places and the changes")
    parser.add_argument("--tests", nargs="+", default=[f"tests/{tier}" for tier in TIERS])
    parser.add_argument("--seconds", type=float, default=120, help="of tests for a mutant, as they were recorded")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--at-least", type=float, default=0, help="percent; if fewer are found, the command fails")
    return parser.parse_args()


def modules_of(path: str) -> Iterator[str]:
    """Yield the modules of a folder, or the module itself, as paths from the root."""
    absolute = (ROOT / path).resolve()
    for file in absolute.rglob("*.py") if absolute.is_dir() else [absolute]:
        yield str(file.relative_to(ROOT))


def sample(files: Iterable[str], number: int, seed: int) -> list[Mutant]:
    """Return a mutant for each of so many places, chosen at random."""
    places = []
    for file in files:
        source = (ROOT / file).read_text()
        tree = MetadataWrapper(cst.parse_module(source))
        finder = PlaceFinder()
        tree.visit(finder)
        places += [(file, source, tree.module, place) for place in finder.places]
    chooser = random.Random(seed)
    mutants: list[Mutant] = []
    for file, source, module, place in chooser.sample(places, len(places)):
        if len(mutants) == number:
            break
        code = module.deep_replace(place.node, chooser.choice(place.changes)).code
        mutants.append(Mutant(file, place.line, source, code))
    return mutants


@dataclass(frozen=True)
class Place:
    """A part of a module, and what mutmut would put there."""

    line: int
    node: cst.CSTNode
    changes: list[cst.CSTNode]


class PlaceFinder(cst.CSTVisitor):
    """Finds the places of a module that behaviour may depend on."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Note a place, and return whether there may be others in it."""
        if is_without_effect(node):
            return False
        operators = (operator for kind, operator in mutation_operators if isinstance(node, kind))
        changes = [each for operator in operators for each in operator(node)]
        if changes and not is_prose(node):
            self.places.append(Place(self.get_metadata(PositionProvider, node).start.line, node, changes))
        return True


def is_without_effect(node: cst.CSTNode) -> bool:
    """Return whether no behaviour depends on a part: types without a rule, log messages, timings, which are tuned."""
    timings = isinstance(node, cst.ClassDef) and node.name.value.endswith("Timings")
    logged = matchers.matches(node, matchers.Call(func=matchers.Attribute(value=matchers.Name("log"))))
    typed = isinstance(node, cst.Annotation) and not matchers.findall(node, matchers.Name("Personal"))
    return timings or logged or typed or isinstance(node, cst.Decorator)


def is_prose(node: cst.CSTNode) -> bool:
    """Return whether a part is a text for people, which no test has to repeat."""
    return isinstance(node, cst.SimpleString | cst.FormattedString) and " " in cst.Module([]).code_for_node(node)


def copy_tree(target: Path) -> Path:
    """Replace a folder by a copy of the tree, and return it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for name in (".venv", "node_modules"):
        (target / name).symlink_to(ROOT / name)
    return target


@dataclass(frozen=True)
class Record:
    """Which tests execute which lines, and the seconds of each test that passes."""

    tree: Path
    data: coverage.CoverageData
    seconds: dict[str, float]

    def tests_of(self, mutant: Mutant, seconds: float) -> list[str]:
        """Return the tests that execute the place of a mutant, up to so many seconds of them.

        The tests that execute most of its module in their time come first: they are about it. What is executed at an
        import concerns each test that executes something else of the module, or else all tests.
        """
        by_line = {
            line: {PHASE.sub("", context) for context in contexts}
            for line, contexts in self.data.contexts_by_lineno(str(self.tree / mutant.path)).items()
        }
        names = set().union(*(by_line.get(line, ()) for line in statement_of(mutant)))
        executed = Counter(itertools.chain.from_iterable(names for names in by_line.values() if "" not in names))
        if "" in names:
            names = set(executed or self.seconds)
        chosen = sorted(names & self.seconds.keys(), key=lambda test: self.seconds[test] / (executed[test] or 1))
        total = itertools.accumulate(self.seconds[test] for test in chosen)
        return [test for test, until in zip(chosen, total, strict=True) if until < seconds]


def read_record(tree: Path, files: list[str], options: argparse.Namespace) -> Record:
    """Return the record of the tests of a tree, after they have run if it is not that of these files."""
    stamp = repr((files, options.tests, digest(tree), sys.version))
    lines, times, stamped = FOLDER / "coverage", FOLDER / "times.xml", FOLDER / "stamp"
    if not stamped.exists() or stamped.read_text() != stamp:
        print("Recording what each test executes", flush=True)
        lines.unlink(missing_ok=True)
        included = "".join(f"  {tree / file}\n" for file in files)
        config = FOLDER / "coveragerc"
        config.write_text(f"[run]\nparallel = true\ncontext = ${{PYTEST_CURRENT_TEST-}}\ninclude =\n{included}")
        measuring = ("--cov", f"--cov-config={config}", "--cov-context=test", "--cov-report=")
        # By the variable, coverage.py measures the processes that a worker starts, and not the worker once more.
        workers = (f"--tx={options.jobs}*popen//env:COVERAGE_PROCESS_START={config}", "--dist=worksteal")
        recording = (*workers, *measuring, "--timeout=900", f"--junitxml={times}")
        done = run_pytest(tree, *recording, *options.tests, COVERAGE_FILE=str(lines))
        if done.returncode not in (0, TESTS_FAILED):
            raise RuntimeError(done.stdout)
        print(done.stdout.splitlines()[-1])
        stamped.write_text(stamp)
    data = coverage.CoverageData(str(lines))
    data.read()
    passed = (case for case in ET.parse(times).iter("testcase") if not len(case))
    names = {PHASE.sub("", context) for context in data.measured_contexts()}
    seconds = {
        f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}": float(case.attrib["time"])
        for case in passed
    }
    return Record(tree, data, {test: seconds[test] for test in sorted(names & seconds.keys())})


def statement_of(mutant: Mutant) -> list[int]:
    """Return the lines of the innermost statement around a mutant's place, without its body."""
    found = []
    for node in ast.walk(ast.parse(mutant.original)):
        if isinstance(node, ast.stmt | ast.ExceptHandler):
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            if first <= mutant.line <= (node.end_lineno or 0):
                body = getattr(node, "body", None)
                found.append((first, max(first, body[0].lineno - 1) if body else node.end_lineno or 0))
    first, last = max(found)
    return [mutant.line, *range(first, last + 1)]


def run_pytest(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a session of its own, and end what is left of it: a test that is ended leaves its servers."""
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), **variables}
    said = tree / "said.txt"  # no pipe, whose end would be that of the last server
    with said.open("w") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait()
        finally:
            for pid in psutil.pids():
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == process.pid:
                        os.kill(pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, said.read_text())


def find(mutant: Mutant, tests: list[str], tree: Path) -> str | None:
    """Run tests with a mutant, and return the first failure."""
    try:
        write(tree / mutant.path, mutant.code)
        parts = filter(None, (tests[:FIRST_TESTS], tests[FIRST_TESTS:]))
        return next(filter(None, (first_failure(tree, part) for part in parts)), None)
    finally:
        write(tree / mutant.path, mutant.original)


times_of_files = itertools.count(1)


def write(file: Path, code: str) -> None:
    """Write a module, with a time that it never had: by it Python knows whether what it has compiled is of this one."""
    file.write_text(code)
    seconds = next(times_of_files)
    os.utime(file, (seconds, seconds))


def first_failure(tree: Path, tests: list[str]) -> str | None:
    """Run tests until one fails, and return what pytest says of it."""
    names = tree / "tests.txt"
    names.write_text("\n".join(tests))
    done = run_pytest(tree, "-x", "--tb=line", f"--timeout={HANGING}", "--timeout-method=thread", f"@{names}")
    if done.returncode == NO_TESTS_RAN:
        raise RuntimeError(done.stdout)
    if done.returncode == 0:
        return None
    said = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
    return said[0] if said else f"pytest ends with {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())

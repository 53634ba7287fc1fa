"""Rules of the code that no linter has. Each problem says what to do."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.promql import ROOT

FOLDERS = ("src", "tests", "benchmarks", "docs", "grafana", "observability", ".ci")
MOST_LINES = {"function": 80, "module": 800}
OR_SAY_WHY = ", or say why in a comment on the line."
ASSERTS = re.compile(r"expect|check|assert_|(eventually|explore|raises|fail|run_state_machine_as_test)$")
LONG = {
    "src/support_service/service.py: open_service": "one place shows in which order the parts are opened",
    "docs/examples/mail_gateway.py": "a reader copies the example as one file",
}
WITHOUT_ASSERTION = {
    "test_bulk_changes_are_as_the_model_predicts": "the player compares each step with the model",
    "test_commands_of_pages_are_valid": "the parsers raise",
    "test_no_files_import_one_another": "the sorter raises",
    "test_request_says_exactly_what_is_read": "the desk compares the status",
    "test_valid_opentelemetry_values_are_accepted": "settings that are refused raise",
}
# A case for each rule, which shows that the rule finds it.
PLANTED = {
    "tests/test_a.py:3: no test waits": "async def test_a():\n    assert True\n    await asyncio.sleep(1)",
    "tests/test_a.py:4: no test waits": "PAUSE = 2 * 2.0\ndef test_a():\n    assert True\n    time.sleep(PAUSE)",
    "tests/test_a.py:1: the test asserts nothing": "async def test_a(client):\n    await client.get('/')",
    "src/a.py:1: `suppress` hides every error": "with contextlib.suppress(KeyError, Exception):\n    pass",
    "src/a.py:1: the function has 81 lines": "def a():\n    call(\n" + "        1,\n" * 78 + "    )",
    "src/a.py:1: the module has 801 lines": "A = 1\n" * 801,
}


def problems(path: str, text: str) -> list[str]:
    """Return a sentence for each place of a module that breaks a rule."""
    module = Module(path, text)
    return [
        f"{path}:{line}: {problem}" for line, problem in (*module.too_long(), *module.calls(), *module.empty_tests())
    ]


class Module:
    """A module, and what breaks a rule in it: lines and sentences."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.lines, self.tree = path, text.splitlines(), ast.parse(text)
        self.nodes = [*ast.walk(self.tree)]
        self.is_test = path.startswith("tests/") and path.rpartition("/")[2].startswith("test_")
        self.constants = {
            target.id: each
            for each in self.tree.body
            if isinstance(each, ast.Assign)
            for target in each.targets
            if isinstance(target, ast.Name)
        }

    def too_long(self) -> Iterator[tuple[int, str]]:
        if len(self.lines) > MOST_LINES["module"] and self.path not in LONG:
            yield 1, f"the module has {len(self.lines)} lines, allowed are {MOST_LINES['module']}. Split it."
        for each in filter(_is_function, self.nodes):
            length = each.end_lineno - each.lineno + 1
            if length > MOST_LINES["function"] and f"{self.path}: {each.name}" not in LONG:
                yield (
                    each.lineno,
                    f"the function has {length} lines, allowed are {MOST_LINES['function']}. Name its parts.",
                )

    def calls(self) -> Iterator[tuple[int, str]]:
        for each in self.nodes:
            if not isinstance(each, ast.Call) or self._has_comment(each):
                continue
            if _name(each) == "suppress" and {"Exception", "BaseException"} & {*map(ast.unparse, each.args)}:
                yield each.lineno, f"`suppress` hides every error. Name those that may happen{OR_SAY_WHY}"
            if self.is_test and _name(each) == "sleep" and each.args and self._is_fixed(each.args[0]):
                yield each.lineno, f"no test waits for a fixed time. Poll with `eventually`{OR_SAY_WHY}"

    def empty_tests(self) -> Iterator[tuple[int, str]]:
        functions = [*filter(_is_function, self.tree.body)] if self.is_test else []
        helpers = {each.name for each in functions if _asserts(each, set())}
        for each in functions:
            if each.name.startswith("test") and not _asserts(each, helpers) and each.name not in WITHOUT_ASSERTION:
                yield (
                    each.lineno,
                    "the test asserts nothing. Compare what it promises, with `assert` or `expect_problem`.",
                )

    def _has_comment(self, node: ast.AST) -> bool:
        return "#" in self.lines[node.lineno - 1]

    def _is_fixed(self, seconds: ast.expr) -> bool:
        """Return whether the seconds are numbers, and constants of the module without a comment. 0 is no time."""
        if isinstance(seconds, ast.Name) and seconds.id in self.constants:
            constant = self.constants[seconds.id]
            return not self._has_comment(constant) and self._is_fixed(constant.value)
        if isinstance(seconds, ast.BinOp):
            return self._is_fixed(seconds.left) and self._is_fixed(seconds.right)
        return isinstance(seconds, ast.Constant) and seconds.value != 0


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _name(call: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")


def _asserts(function: ast.AST, helpers: set[str]) -> bool:
    calls = {_name(each) for each in ast.walk(function) if isinstance(each, ast.Call)}
    return any(isinstance(each, ast.Assert) for each in ast.walk(function)) or any(
        ASSERTS.match(name) or name in helpers for name in calls
    )


@pytest.mark.parametrize(("found", "code"), PLANTED.items(), ids=str)
def test_planted_problem_is_found(found, code):
    path = found.partition(":")[0]
    (problem,) = problems(path, code)
    assert problem.startswith(found)


def test_code_follows_the_rules():
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = [each for path in modules for each in problems(str(path.relative_to(ROOT)), path.read_text())]
    assert not found, "\n" + "\n".join(found)

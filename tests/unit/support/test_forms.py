"""Groups of tests that run when their inputs have changed: what a group reads, and when it is recorded as passed."""

import json
import shlex
import sys
from unittest.mock import patch

import pytest

from tests.support.plugins import forms


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project with a group of two modules, which have three short tests and a long one."""
    for path, text in {
        "rules/a": "a",
        "checks/a/test_one.py": "def test_first(): ...\ndef test_second(): ...\n",
        "checks/a/test_two.py": "import pytest\ndef test_third(): ...\n@pytest.mark.long\ndef test_fourth(): ...\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(forms, "ROOT", tmp_path)
    monkeypatch.setattr(forms, "PASSED", tmp_path / "passed.json")
    monkeypatch.setattr(forms, "groups", lambda: {"rules": {"tests": ["checks/a"], "inputs": ["rules"]}})
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(tmp_path)
    forms.digest.cache_clear()
    yield tmp_path
    forms.digest.cache_clear()


def test_group_runs_again_when_one_of_its_files_has_changed(tree):
    """A new file counts as well."""

    def digest():
        return forms.digest.__wrapped__("rules")

    before = digest()
    assert digest() == before
    (tree / "rules/a").write_text("b")
    changed = digest()
    (tree / "rules/b").write_text("")
    assert len({before, changed, digest()}) == 3
    assert (forms.group_of("checks/a/test_rules.py"), forms.group_of("checks/b.py")) == ("rules", None)


def test_inputs_of_every_group_exist():
    """A renamed folder would otherwise leave its group out for ever."""
    for group in forms.groups():
        assert forms.digest(group)


def run(tree, arguments):
    """Run pytest with the plugin, and return what is recorded as passed."""
    options = f"--rootdir {tree} --import-mode importlib -p no:cacheprovider -p no:terminal --record-passed {arguments}"
    with patch.dict(sys.modules):
        pytest.main(shlex.split(options), [forms])
    return [*json.loads(forms.PASSED.read_text())]


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        ("checks/a", ["rules"]),
        ("checks/a/test_one.py checks/a/test_two.py --all", ["rules"]),
        ("checks/a -m 'not long'", ["rules"]),
        ("checks/a -k 'not third'", []),
        ("checks/a --deselect checks/a/test_one.py::test_first", []),
        ("checks/a --ignore checks/a/test_two.py", []),
        ("checks/a/test_one.py", []),
        ("checks/a/test_one.py checks/a/test_two.py::test_third", []),
    ],
)
def test_group_is_recorded_when_all_of_it_has_passed(tree, arguments, recorded):
    """A run of some of its modules or tests says nothing of the others. Its long tests may be left out."""
    assert run(tree, arguments) == recorded


@pytest.mark.parametrize("arguments", ["checks", "checks -x"])
def test_group_is_not_recorded_when_a_test_fails(tree, arguments):
    """Neither if a test before it fails, and the run ends there."""
    (tree / "checks/a0").mkdir()
    failing = "checks/a/test_one.py" if arguments == "checks" else "checks/0/test_zero.py"
    (tree / failing).parent.mkdir(exist_ok=True)
    (tree / failing).write_text("def test_broken(): assert False")
    assert run(tree, arguments) == []

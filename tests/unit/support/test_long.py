"""`make test-long`: the table of long forms, and the documentation of it."""

import re

import pytest

from tests.long import LONG, main
from tests.support.each import each_row
from tests.support.promql import ROOT


def test_documentation_has_a_row_for_each_long_form():
    """With what the short form keeps."""
    _, _, rest = (ROOT / "docs" / "performance.md").read_text().partition("\n## Long tests\n")
    section, _, _ = rest.partition("\n## ")
    assert re.findall(r"^\| ([a-z][a-z-]*) \| .+ \| .+ \|$", section, re.MULTILINE) == ["name", *LONG]


@each_row("name", LONG)
def test_variables_are_read_by_the_tests(name):
    """A variable that no test reads would leave the short form."""
    paths = [ROOT / path for path in (*LONG[name].paths, "tests/support")]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    source = "".join(file.read_text() for file in files)
    assert [variable for variable in LONG[name].variables if f'"{variable}"' not in source] == []


def test_unknown_name_lists_all(monkeypatch, capsys):
    """Nothing runs, and the status is 2."""
    monkeypatch.setattr("sys.argv", ["long", "crash", "crush"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "unknown name: crush" in shown
    assert all(f"\n  {name} " in shown for name in LONG)

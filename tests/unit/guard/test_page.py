"""The page of the guard lists its bounds as they are."""

import re
from pathlib import Path

from support_service.core.problem_codes import PROBLEM_CODES
from tests.support.promql import ROOT

PACKAGE = ROOT / "src" / "support_service"
PAGE = PACKAGE / "guard" / "README.md"
SETTINGS = "".join(each.read_text() for each in (PACKAGE / "platform" / "settings").glob("*.py"))


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_limit_is_in_its_module():
    """A constant is defined or read in one of the modules of its row, a setting is one of the service."""
    for _, modules, limits, _ in rows():
        files = [PACKAGE / "guard" / f"{name}.py" for name in re.findall(r"`(\w+)`", modules)]
        files += [PACKAGE / name for name in re.findall(r"`([\w/]+\.py)`", limits)]
        code = "".join(each.read_text() for each in (*files, PACKAGE / "guard" / "guard.py"))
        for name in re.findall(r"`([A-Za-z_.]+)`", limits):
            if not name.endswith(".py"):
                found = f'alias="{name}"' in SETTINGS if name.startswith("SUPPORT_") else name.split(".")[-1] in code
                assert found, name


def test_each_answer_has_its_status():
    """Clients get the codes of the page with the statuses of the page."""
    status = {each.name: each.status for each in PROBLEM_CODES}
    answers = [answer for row in rows() for answer in re.findall(r"(\d{3}) `(\w+)`", row[3])]
    assert answers
    assert [(code, number) for number, code in answers if status.get(code) != int(number)] == []


def test_each_module_is_on_the_page():
    """Nothing bounds a client without a word on the page."""
    text = PAGE.read_text()
    modules = {Path(each).stem for each in (PACKAGE / "guard").glob("*.py")} - {"__init__", "guard"}
    assert {name for name in modules if f"`{name}`" not in text} == set()

"""The tour of the README runs as it is pasted beside `make run`.

TOUR_PYTHON names the Python of another environment: `make wheel` runs the tour where only the wheel is installed.
"""

import asyncio
import os
import re
import shlex
import sys

import aiohttp
import pytest

from tests.support.calls import list_cases, read_detail
from tests.support.process import PATIENT_SOURCES, running
from tests.support.promql import ROOT

pytestmark = pytest.mark.usefixtures("processes")

ENTRY = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d ([a-z-]+)$", re.MULTILINE)  # of the timeline: its time and type
PYTHON = os.environ.get("TOUR_PYTHON", sys.executable)
ADDRESS = re.compile(r"(?:http://)?(?:localhost|127\.0\.0\.1):8000")
ANSWER = "We asked the carrier."

_, _, TOUR = (ROOT / "README.md").read_text().partition("\n## Run it\n")
TOUR, _, _ = TOUR.partition("\n## ")
(PROGRAM,) = re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL)
START, *BLOCKS = re.findall(r"```console\n(.*?)```", TOUR, re.DOTALL)


def commands(block):
    """Return the commands of a console block, which may span lines, without what they print."""
    found, complete = [], True
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif not complete:
            found[-1] += f"\n{line}"
        complete = is_complete(found[-1])
    return found


def is_complete(command):
    """Tell whether a command has no open quote and no continued line."""
    try:
        return bool(shlex.split(command)) and not command.endswith("\\")
    except ValueError:
        return False


@pytest.fixture
async def demo(tmp_path):
    async with running("demo", "--port", "0", cwd=tmp_path, python=PYTHON, **PATIENT_SOURCES) as process:
        yield re.search(r"http://127\.0\.0\.1:\d+", await process.read_output(until="Ctrl-C"))[0]


@pytest.fixture
async def session(demo):
    async with aiohttp.ClientSession(demo) as session:
        yield session


async def answered(session):
    """Return the subjects of the cases that the tour has answered."""
    cases = [await read_detail(session, case) for case in (await list_cases(session, q="tracking"))["items"]]
    return [case["subject"] for case in cases for message in case["messages"] if message["message"] == ANSWER]


async def output_of(*command, cwd):
    """Run a command; return what it prints."""
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_commands_of_the_tour_find_read_and_answer_a_case(demo, session, tmp_path):
    """Each prints what the README shows, apart from ids and times."""
    assert START.startswith("$ make run ")
    script = "\n".join(command for block in BLOCKS for command in commands(block))
    shown = await output_of("bash", "-euc", ADDRESS.sub(demo, script), cwd=tmp_path)
    assert '"subject": "Parcel has not arrived",' in shown
    assert re.findall(r"\{'order': '\w+', 'payment': '\w+', 'fulfillment': '\w+'\}", shown)
    assert ENTRY.findall(shown) == ENTRY.findall(TOUR) != []
    assert await answered(session) == ["Parcel has not arrived"]


async def test_program_of_the_readme_answers_one_case(demo, session, tmp_path):
    """It runs as it is pasted."""
    (tmp_path / "answer.py").write_text(ADDRESS.sub(demo, PROGRAM))
    shown = await output_of(PYTHON, "answer.py", cwd=tmp_path)
    assert re.fullmatch(r"Answered 'Parcel has not arrived' at \d\d:\d\d\n", shown)
    assert await answered(session) == ["Parcel has not arrived"]

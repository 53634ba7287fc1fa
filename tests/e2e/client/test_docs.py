"""The examples of docs/client.md run against a service, and pass mypy's strict mode, as programs of users do."""

import asyncio
import re
import subprocess
import sys
import textwrap

import pytest

from support_service.api.routes import ROUTES
from support_service.client import SupportClient
from tests.support.calls import eventually
from tests.support.process import START_TIMEOUT, running
from tests.support.promql import ROOT

pytestmark = pytest.mark.usefixtures("processes")

PROGRAM, *EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
IMPORTS = "import os\nfrom support_service.client import Case, SupportClient\n"
HAS_STREAM = "/support/stream" in {route.path for route in ROUTES}


def as_function(example: str, name: str) -> str:
    """Return a function that runs an example with a client and a case."""
    body = textwrap.indent(example, "    ")
    return f"async def {name}(client: SupportClient, case: Case) -> None:\n{body}"


@pytest.fixture
def run_example(monkeypatch, tmp_path, shared_address):
    """Run an example in a folder of its own; gives what it left in its function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPPORT_URL", shared_address)

    async def run(example):
        names = {}
        exec(compile(IMPORTS + as_function(example, "run"), "docs/client.md", "exec"), names)
        async with SupportClient(shared_address) as client:
            case = await client.open_case(subject="Parcel late", channel="email", priority="urgent")
            await names["run"](client, case)
            return await client.get_case(case.id)

    return run


async def test_first_program_runs(tmp_path, shared_address):
    (tmp_path / "program.py").write_text(PROGRAM)
    async with running(cwd=tmp_path, module="program", forked=False, SUPPORT_URL=shared_address) as program:
        assert await program.wait_for_exit() == (0, "Parcel late open 1\n", "")


OUTPUTS = {
    "list_cases(status": "Parcel late",
    "set_override": "switched off until",
    "NotFound": "invalid_request ['subject']\nthere is no such case\n",
    "progress=print": "262144 300000\n300000 300000\n",
}


EFFECTS = {
    "order-1001-shipped": lambda case: [message.message for message in case.messages] == ["Order shipped."],
    "update_case": lambda case: case.tags == ["vip"],
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
async def test_example_runs(run_example, capsys, example):
    """It prints what the page says, and has the effect that the page tells."""
    case = await run_example(example)
    shown = capsys.readouterr().out
    assert all(text in shown for mark, text in OUTPUTS.items() if mark in example), shown
    assert all(is_there(case) for mark, is_there in EFFECTS.items() if mark in example), case


def test_every_output_and_effect_is_of_one_example():
    """Otherwise it would be checked of none."""
    assert [mark for mark in OUTPUTS | EFFECTS if sum(mark in example for example in EXAMPLES) != 1] == []


@pytest.mark.skipif(not HAS_STREAM, reason="the service has no stream")
async def test_stream_example_prints_changes(shared_address, capsys):
    (example,) = (example for example in EXAMPLES if "client.stream()" in example)
    names = {}
    exec(compile(IMPORTS + example, "docs/client.md", "exec"), names)
    shown = ""
    async with SupportClient(shared_address) as client:
        following = asyncio.create_task(names["follow"](client))

        async def is_shown():
            nonlocal shown
            case = await client.open_case(subject="Parcel late", channel="email")
            shown += capsys.readouterr().out
            return case.id and "1\n" in shown

        await eventually(is_shown)
        following.cancel()


@pytest.mark.long
def test_examples_pass_strict_type_checks(tmp_path):
    """Users have no plugin of pydantic, and none of our settings."""
    program = tmp_path / "program.py"
    functions = [as_function(example, f"example_{number}") for number, example in enumerate(EXAMPLES)]
    program.write_text("\n".join([IMPORTS, *functions]))
    (tmp_path / "first.py").write_text(PROGRAM)
    wrong = tmp_path / "wrong.py"
    calls = (
        'client.open_case(subject="no channel")',
        "client.get_case(case.id, include_timelin=True)",
        'client.set_status(case.id, "lost")',
    )
    wrong.write_text(IMPORTS + as_function("".join(f"await {call}\n" for call in calls) + "case.subjekt\n", "wrong"))
    assert mypy(program, tmp_path / "first.py") == (0, "Success: no issues found in 2 source files\n")
    _, found = mypy(wrong)
    errors = [line.rpartition("[")[2] for line in found.splitlines() if ": error:" in line]
    assert errors == ["call-arg]", "call-arg]", "arg-type]", "attr-defined]"], found


def mypy(*programs):
    """Check programs; return the exit status and the output. The first check reads the libraries, too."""
    options = ["--strict", "--config-file=", "--cache-dir", ROOT / ".mypy_cache" / "users"]
    command = [sys.executable, "-m", "mypy", *options, *programs]
    done = subprocess.run(command, timeout=2 * START_TIMEOUT, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

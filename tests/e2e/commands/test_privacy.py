"""`erase` and `export` as processes: output, confirmation, and exit status."""

import json
import os
import pty
import signal

import pytest

from support_service.cases.model.requests import NewCase, NewMessage
from support_service.cases.service import CaseService
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.cases import recorder
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def cases(database, instruments):
    return CaseService(database, recorder(database, instruments))


@pytest.fixture
async def case(cases):
    new = {"customerId": "zaphod", "subject": "Zaphod's parcel", "priority": "high", "channel": "email"}
    case = await cases.open_case(SYSTEM_ORIGIN, NewCase(**new, externalId="<zaphod@mail.example>"))
    await cases.add_message(SYSTEM_ORIGIN, case.id, NewMessage(authorType="agent", message="Dear Zaphod"))
    return case


async def test_erase_prints_a_receipt(case, run):
    """The command needs `--yes`, names the erased cases, and finds nothing a second time."""
    status, _, errors = await run("erase", "customer", "zaphod")
    assert (status, "--yes" in errors) == (2, True)
    status, out, _ = await run("erase", "customer", "zaphod", "--dry-run")
    assert (status, json.loads(out)["cases"]) == (0, [case.id])
    status, out, errors = await run("erase", "customer", "zaphod", "--yes")
    receipt = json.loads(out)
    assert (status, receipt["cases"], receipt["messages"], receipt["unreached"]) == (0, [case.id], 1, []), errors
    status, _, errors = await run("erase", "customer", "zaphod", "--yes")
    assert (status, errors.count("\n")) == (2, 1)
    assert "zaphod" in errors


@pytest.fixture
def terminal():
    """Both ends of a terminal: the controller, which types, and the end that a command reads."""
    controller, command_end = pty.openpty()
    yield controller, command_end
    os.close(controller)
    os.close(command_end)


ERASE_QUESTION = "Permanently erase 'zaphod' from 1 cases? [y/N] "


async def test_ctrl_c_at_the_question_erases_nothing(case, run, variables, terminal):
    """A single Ctrl-C ends the command."""
    async with running("erase", "customer", "zaphod", stdin=terminal[1], **variables) as process:
        await process.wait_for_prompt(ERASE_QUESTION)
        process.stop(signal.SIGINT)
        assert await process.wait_for_exit() == (130, "", "")
    status, out, _ = await run("erase", "customer", "zaphod", "--dry-run")
    assert (status, json.loads(out)["cases"]) == (0, [case.id])


async def test_erase_needs_a_yes_at_the_question(case, variables, terminal):
    """The end of the input and any other text erase nothing."""
    for typed in (b"\x04", b"no\n"):
        async with running("erase", "customer", "zaphod", stdin=terminal[1], **variables) as process:
            await process.wait_for_prompt(ERASE_QUESTION)
            os.write(terminal[0], typed)
            assert await process.wait_for_exit() == (1, "", "Nothing was erased.\n")
    async with running("erase", "customer", "zaphod", stdin=terminal[1], **variables) as process:
        await process.wait_for_prompt(ERASE_QUESTION)
        os.write(terminal[0], b"Yes\n")
        status, out, errors = await process.wait_for_exit()
    assert (status, json.loads(out)["cases"], errors) == (0, [case.id], "")


async def test_export_is_masked_by_default(case, run):
    """An export has one line per case. Personal data needs `--unmasked`."""
    status, out, _ = await run("export")
    (line,) = out.splitlines()
    exported = json.loads(line)
    assert (status, exported["id"], exported["priority"]) == (0, case.id, "high")
    assert exported["messages"][0]["authorType"] == "agent"
    assert "zaphod" not in out.lower()
    status, out, _ = await run("export", SUPPORT_MASKING_KEY="\udcff")  # a key may be any bytes
    assert (status, "zaphod" in out.lower()) == (0, False)
    status, out, _ = await run("export", "--unmasked")
    exported = json.loads(out)
    assert (status, exported["subject"], exported["externalId"]) == (0, "Zaphod's parcel", "<zaphod@mail.example>")


async def test_export_of_large_cases_is_complete(cases, run):
    """Each case is exported once, although the cases take several pages."""
    large = {"context": {"a": "x" * 65_000}, "description": "\u00a0" * 65_000}  # two bytes each
    new = NewCase(subject="A parcel", channel="email", **large)
    opened = [await cases.open_case(SYSTEM_ORIGIN, new) for _ in range(23)]
    status, out, _ = await run("export")
    assert status == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [case.id for case in reversed(opened)]

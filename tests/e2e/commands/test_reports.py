"""`reports export` as a process: what it writes, and its errors."""

import csv
import json
from datetime import timedelta

import pytest

from support_service.cases.model.requests import NewCase, StatusChange
from support_service.cases.service import CaseService
from support_service.core.clock import utc_now
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.reports.case_report import COLUMNS
from tests.support.cases import recorder

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
async def cases(database, instruments):
    """Three cases, of which one is closed."""
    service = CaseService(database, recorder(database, instruments))
    opened = [
        await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel=channel))
        for channel in ("email", "chat", "Ann Lee")
    ]
    await service.set_status(SYSTEM_ORIGIN, opened[0].id, StatusChange(status="closed"))
    return opened


async def test_export_writes_a_row_for_each_case(run_json, cases, tmp_path):
    """Masked unless an option says otherwise; no file is replaced."""
    today = utc_now().date()
    file = tmp_path / "today.csv"
    days = ("--from", today - timedelta(days=1))
    assert await run_json("reports", "export", *days, file) == (
        0,
        [{"summary": True, "file": str(file), "cases": 3}],
        "",
    )
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["id"], row["channel"]) for row in rows] == [
        (case.id, channel) for case, channel in zip(cases, ("email", "chat", "other"), strict=True)
    ]
    status, _, errors = await run_json("reports", "export", *days, file)
    assert (status, "already" in errors) == (2, True)
    lines = tmp_path / "today.jsonl"
    assert (await run_json("reports", "export", *days, "--format", "jsonl", "--unmasked", lines))[0] == 0
    assert [json.loads(line)["channel"] for line in lines.read_text().splitlines()] == ["email", "chat", "Ann Lee"]


async def test_wrong_days_are_refused(run_json, migrated_folder, tmp_path):
    status, _, errors = await run_json(
        "reports", "export", "--from", "2026-05-02", "--to", "2026-05-01", tmp_path / "x.csv"
    )
    assert status != 0
    assert "is after --to" in errors
    assert not list(tmp_path.glob("x.csv*"))

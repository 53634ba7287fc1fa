"""The report with a row for each case, on both databases."""

from datetime import UTC, datetime, timedelta

from support_service.cases.model.requests import NewCase, StatusChange
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.reports import case_report
from tests.conftest import both_databases
from tests.support.cases import message_from

NOON = datetime(2026, 5, 12, 12, tzinfo=UTC)


@both_databases
async def test_each_case_has_a_row(service, database, monkeypatch):
    """In the order of the openings, whatever the size of the pages. The first and the last day are included."""
    hours = (-13, -12, 0, 0, 0, 35, 36)  # from noon of the first day, which ends after 12 hours
    cases = []
    for number in range(len(hours)):
        new = NewCase(subject="A", channel="email", team=f"{number}", assignedAgentId="ann")
        cases.append((await service.open_case(SYSTEM_ORIGIN, new)).id)
    synthetic = await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="synthetic"))
    for author in ("customer", "agent"):
        await service.add_message(SYSTEM_ORIGIN, cases[2], message_from(author))
    for status in ("resolved", "open", "closed"):
        await service.set_status(SYSTEM_ORIGIN, cases[2], StatusChange(status=status))
    async with database.transaction() as tx:
        for case_id, hour in (*zip(cases, hours, strict=True), (synthetic.id, 0)):
            at = NOON + timedelta(hours=hour)
            await tx.execute(tickets.update().where(tickets.c.id == case_id).values(created_at=at))
    day = NOON.date()
    for size in (1, 2, 500):
        monkeypatch.setattr(case_report, "PAGE_SIZE", size)
        pages = [page async for page in case_report.read_pages(database, day, day + timedelta(days=1))]
        found = [row for page in pages for row in page]
        assert [row.id for row in found] == cases[1:6]
    answered = found[1]
    assert (answered.team, answered.agent, answered.status, answered.messages) == ("2", "ann", "closed", 2)
    assert (answered.reopened, answered.breaches) == (1, 0)
    assert answered.resolution_seconds >= answered.first_answer_seconds > 0
    assert (found[0].messages, found[0].first_answer_seconds, found[0].resolution_seconds) == (0, None, None)

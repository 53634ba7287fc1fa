"""The repair of the search passes over cases that another replica has locked."""

import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import NewCase, NewMessage
from support_service.cases.search_repair import SearchRepair, SearchRepairTimings
from support_service.cases.service import CaseService
from support_service.platform.database.tables import messages, search_documents, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.cases import recorder

MESSAGE = NewMessage.model_validate({"authorType": "agent", "message": "the blue vase"})


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_locked_case_holds_up_no_other_case_and_no_run(database, instruments):
    """A run indexes the cases behind it, and ends. A later run indexes it."""
    cases = CaseService(database, recorder(database, instruments))
    for _ in range(3):
        case = await cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))
        await cases.add_message(SYSTEM_ORIGIN, case.id, MESSAGE)
    async with database.transaction() as tx:
        await tx.execute(search_documents.delete())
        await tx.execute(messages.update().values(has_document=False))
    repair = SearchRepair(database, SearchRepairTimings(batch_size=2))

    async def to_index():
        waiting = sa.select(messages.c.ticket_id).where(messages.c.has_document.is_(sa.false()))
        return [row.ticket_id for row in await database.fetch_all(waiting)]

    locked, *_ = await to_index()
    async with database.transaction() as tx:
        await tx.execute(sa.select(tickets.c.id).where(tickets.c.id == locked).with_for_update())
        await repair.run()
        assert await to_index() == [locked]
    await repair.run()
    assert await to_index() == []

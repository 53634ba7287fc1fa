"""Cases as their service returns them, and cases that are stored past it."""

from collections.abc import Awaitable
from datetime import UTC, datetime

import pytest

from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.model.case import Case, CaseSummary
from support_service.cases.model.requests import NewMessage
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.cases.sql import case_rows
from support_service.cases.sql.case_reading import to_case
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import SupportError
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource

AT = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)


async def stored_case(service: CaseService, case_id: str) -> Case:
    """Return a case with its whole conversation. Raises NotFound."""
    return to_case(await service.read_case(SYSTEM, case_id, any_size=True))


def ticket(number=1, **fields):
    values = dict.fromkeys(("description", "customer_id", "assigned_agent_id", "team", "external_id", "sent_at"))
    values |= {"id": f"case-{number}", "subject": "Đơn hàng", "status": "open", "priority": "normal"}
    values |= {"channel": "email", "context": [], "tags": [], "created_at": AT, "updated_at": AT}
    return CaseSummary.model_construct(**values | fields)


@pytest.fixture
def add_cases(database):

    async def add_cases(*stored, references=()):
        async with database.transaction() as tx:
            for each in stored:
                await case_rows.add_case(tx, each, references)

    return add_cases


@pytest.fixture
def own_metrics():
    """The metrics of this test alone, which starts no service."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics
    metrics.close()


def message_from(author: str, text: str = "Hello", **fields: str) -> NewMessage:
    """Return the request for a message of an author."""
    return NewMessage.model_validate({"authorType": author, "message": text, **fields})


async def code_of(change: Awaitable[object]) -> str | None:
    """Return the problem code of a change that is refused, or None."""
    try:
        await change
    except SupportError as refusal:
        return refusal.code
    return None


@pytest.fixture
def service(database: Database, instruments: Instruments) -> CaseService:
    """The case service, without service levels."""
    return CaseService(database, recorder(database, instruments))


def recorder(database: Database, instruments: Instruments) -> CaseRecorder:
    return CaseRecorder(instruments, ClockTracker(KnownPolicies(database), instruments))

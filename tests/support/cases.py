"""Cases as their service returns them."""

from support_service.cases.model.case import Case
from support_service.cases.service import CaseService
from support_service.cases.store.case_reading import to_case
from support_service.core.domain.principals import SYSTEM


async def stored_case(service: CaseService, case_id: str) -> Case:
    """Return a case with its whole conversation. Raises NotFound."""
    return to_case(await service.read_long_case(SYSTEM, case_id))

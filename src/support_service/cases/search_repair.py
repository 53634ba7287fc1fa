"""Repair of missing search documents: of marked messages in the background, and of all cases on request."""

from collections.abc import Callable
from dataclasses import dataclass

from support_service.cases.store import missing_documents
from support_service.platform.database import Database
from support_service.platform.database.erasure import ERASED_TEXT

RANGE = 500  # cases that one statement compares with their documents


@dataclass(frozen=True, slots=True)
class SearchRepairTimings:
    """The interval of the background job in seconds, and the size of its batches."""

    interval: float = 5.0
    batch_size: int = 100  # messages whose cases are indexed, each in a transaction of its own


@dataclass(slots=True)
class SearchTotals:
    """Numbers that a check has found."""

    cases: int = 0
    incomplete_cases: int = 0
    cases_without_document: int = 0
    messages_without_document: int = 0
    repaired_cases: int = 0


class SearchRepair:
    """Makes missing search documents. A case that another replica has locked is left to that replica."""

    def __init__(self, database: Database, timings: SearchRepairTimings = SearchRepairTimings()) -> None:
        self._database = database
        self._timings = timings

    async def run(self) -> None:
        """Index the cases of all messages that are marked as having no document."""
        while found := await missing_documents.cases_to_index(self._database, self._timings.batch_size):
            if not any([await self._index(case_id) for case_id in found]):
                return

    async def check(self, *, repair: bool, progress: Callable[[int], None] = lambda _: None) -> SearchTotals:
        """Compare all cases with their documents. If `repair` is true, make the documents of incomplete cases."""
        totals = SearchTotals(await missing_documents.count_cases(self._database))
        newest = await missing_documents.newest_seq(self._database)
        for first in range(1, newest + 1, RANGE):
            last = min(first + RANGE - 1, newest)
            for case in await missing_documents.incomplete_cases(self._database, first, last, ERASED_TEXT):
                totals.incomplete_cases += 1
                totals.cases_without_document += case.lacks_own
                totals.messages_without_document += case.messages
                if repair:
                    totals.repaired_cases += await self._index(case.id)
            progress(last - first + 1)
        return totals

    async def _index(self, case_id: str) -> bool:
        async with self._database.transaction() as tx:
            return await missing_documents.index_case(tx, case_id, ERASED_TEXT)

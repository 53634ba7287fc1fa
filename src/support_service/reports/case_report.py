"""The report with a row for each case: its pages, in the order of the openings, and its formats."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime

import pydantic_core
import sqlalchemy as sa

from support_service.cases.masking import Masker
from support_service.cases.sql.projections import IS_SYNTHETIC
from support_service.core.clock import format_time
from support_service.platform.database import Row, RowReader
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.tables import case_results, messages, tickets
from support_service.reports.measures import end_of, start_of
from support_service.reports.report_models import ReportedCase, ReportFormat

PAGE_SIZE = 500  # cases, which are in memory at once
COLUMNS = [field.alias or name for name, field in ReportedCase.model_fields.items()]
# A spreadsheet would run a cell that begins with one of these as a formula.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
_T, _R = tickets.c, case_results.c
_AT = sa.bindparam("at", type_=UtcDateTime())
READ_PAGE = (
    sa.select(
        _T.seq,
        *(_T[name] for name in ("id", "channel", "team", "assigned_agent_id", "priority", "status")),
        *(_T.created_at, _T.answered_at, _R.solved_at),
        sa.func.coalesce(_R.reopened, sa.literal_column("0")).label("reopened"),
        sa.func.coalesce(_R.breaches, sa.literal_column("0")).label("breaches"),
        sa.select(sa.func.count()).where(messages.c.ticket_id == _T.id).scalar_subquery().label("messages"),
    )
    .outerjoin_from(tickets, case_results, _R.case_id == _T.id)
    .where(
        sa.not_(IS_SYNTHETIC),
        # The index finds the beginning of the page by the first condition.
        _T.created_at >= _AT,
        sa.or_(_T.created_at > _AT, _T.seq > sa.bindparam("seq", type_=sa.BigInteger())),
        _T.created_at < sa.bindparam("end", type_=UtcDateTime()),
    )
    .order_by(_T.created_at, _T.seq)
    .limit(sa.bindparam("count"))
)


async def read_pages(reader: RowReader, first: date, last: date) -> AsyncIterator[list[ReportedCase]]:
    """Yield the cases that were opened from a day to another, oldest first, page by page; at least one page."""
    after, end = (start_of(first), -1), end_of(last)
    while True:
        rows = await reader.fetch_all(READ_PAGE, {"at": after[0], "seq": after[1], "end": end, "count": PAGE_SIZE})
        yield [_to_case(row) for row in rows]
        if len(rows) < PAGE_SIZE:
            return
        after = (rows[-1].created_at, rows[-1].seq)


def _to_case(row: Row) -> ReportedCase:
    return ReportedCase.model_construct(
        id=row.id,
        channel=row.channel,
        team=row.team,
        agent=row.assigned_agent_id,
        priority=row.priority,
        status=row.status,
        opened_at=row.created_at,
        # An agent who opens a case with a message has not answered it.
        first_answer_seconds=_seconds(row.created_at, row.answered_at) or None,
        resolution_seconds=_seconds(row.created_at, row.solved_at),
        reopened=row.reopened,
        messages=row.messages,
        breaches=row.breaches,
    )


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()


class CaseRowWriter:
    """Writes pages of cases in a format, masked if there is a masker."""

    def __init__(self, written: ReportFormat, masker: Masker | None) -> None:
        self._format = written
        self._masker = masker
        self.head = (",".join(COLUMNS) + "\r\n").encode() if written == "csv" else b""

    def rows(self, cases: Sequence[ReportedCase]) -> bytes:
        shown = self._masker.mask_all(cases) if self._masker else cases
        if self._format == "csv":
            text = io.StringIO()
            csv.writer(text).writerows([_cell(value) for value in each.__dict__.values()] for each in shown)
            return text.getvalue().encode()
        return b"".join(pydantic_core.to_json(each, by_alias=True) + b"\n" for each in shown)


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return format_time(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value

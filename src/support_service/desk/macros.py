"""Macros: named texts with variables for answers to customers."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core import pagination
from support_service.desk.macro_models import Macro, MacroContent
from support_service.desk.named_resources import NamedResources, ResourceKind
from support_service.platform.database import Database, Row
from support_service.platform.database.dialect import octets
from support_service.platform.database.statements import limit_by_bytes
from support_service.platform.database.tables import macros
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes of a page's texts as JSON; a page that reaches it gets no further macro

MACRO_KIND = ResourceKind(
    table=macros,
    noun="macro",
    full_noun="macro",
    full_plural="macros",
    created_action="macro.created",
    changed_action="macro.changed",
    deleted_action="macro.deleted",
    not_found_code="macro_not_found",
    changed_code="macro_changed",
    exists_code="macro_exists",
    exists_message="There is a macro {name}; choose another name, or replace it with PUT.",
    too_many_code="too_many_macros",
)
_M = macros.c
_TEXT_AND_TAGS_SIZE = octets(_M.text) + octets(sa.cast(_M.tags, sa.Text))
_SIZES_AFTER = (
    sa.select(_M.seq, _TEXT_AND_TAGS_SIZE.label("size"))
    .where(_M.seq > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(_M.seq)
    .limit(sa.bindparam("one_more"))
)
_WITHIN_BYTES = limit_by_bytes(_SIZES_AFTER, "seq")
PAGE_OF_MACROS = (
    sa.select(macros, _WITHIN_BYTES.c.number)
    .join(_WITHIN_BYTES, _WITHIN_BYTES.c.seq == _M.seq)
    .order_by(_M.seq)
    .limit(sa.bindparam("limit"))
)


class MacroService(NamedResources[MacroContent, Macro]):
    """Reads and changes macros. Changes cause no events."""

    def __init__(self, database: Database, *, max_macros: int = 1000, max_page_bytes: int = MAX_PAGE_BYTES) -> None:
        super().__init__(database, MACRO_KIND, max_macros)
        self._max_page_bytes = max_page_bytes

    async def list_macros(self, cursor: str | None, limit: int) -> tuple[list[Macro], str | None]:
        """Return a page of macros, oldest first, and the cursor of the next page, or None on the last one.

        A page has at most `limit` macros, and fewer if their texts are long.
        """
        after, most = pagination.decode_cursor(cursor) or 0, self._max_page_bytes
        bounds = {"after": after, "limit": limit, "one_more": limit + 1, "bytes": most}
        rows = await self._database.fetch_all(PAGE_OF_MACROS, bounds)
        # JSON may write one character of a text as six bytes, so the JSON is measured here too.
        before = accumulate((len(pydantic_core.to_json(row.text)) for row in rows), initial=0)
        page = [row for row, written in zip(rows, before, strict=False) if written < most]
        following = pagination.encode_cursor(page[-1].seq) if rows and rows[0].number > len(page) else None
        return list(map(self._to_resource, page)), following

    async def create(self, origin: WriteOrigin, name: str, content: MacroContent) -> Macro:
        """Create a macro and return it."""
        async with unit_of_work(self._database, origin, self._contended_row) as work:
            return await self._create_resource(work, name, content)

    def _build_resource(self, content: Mapping[str, Any], common: Mapping[str, Any]) -> Macro:
        return Macro.model_construct(**content, **common)

    def _content_from_row(self, row: Row) -> Mapping[str, Any]:
        return {name: getattr(row, name) for name in MacroContent.model_fields}

    def _columns_from_content(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return content

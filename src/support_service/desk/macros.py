"""The macro service: supervisors create, replace and delete macros; each change is one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support_service.core import pagination
from support_service.core.clock import time_after, to_micros, utc_now
from support_service.core.errors import Conflict, NotFound
from support_service.core.optimistic_lock import ExpectedVersions, expect_resource_version
from support_service.core.resource_names import expect_valid_name, is_valid_name
from support_service.desk import macro_rows as store
from support_service.desk.macro_models import MAX_PAGE_BYTES, Macro, MacroFields
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database
from support_service.platform.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work

MACROS = ContendedRow("macros")  # all of them: changes of macros are rare


@dataclass(frozen=True, slots=True)
class MacroLimits:
    """Limits of macros."""

    max_macros: int = 1000
    max_page_bytes: int = MAX_PAGE_BYTES


class MacroService:
    """Reads and changes macros. Changes are recorded in the audit log; they belong to no case, and cause no events."""

    def __init__(self, database: Database, limits: MacroLimits = MacroLimits()) -> None:
        self._database = database
        self._limits = limits

    async def list_macros(self, cursor: str | None, limit: int) -> tuple[list[Macro], str | None]:
        """Return a page of macros, oldest first, and the cursor of the next page, or None on the last one.

        Raises ValidationFailed for a bad cursor. A page has at most `limit` macros, and fewer if their texts are long.
        """
        after = pagination.decode_cursor(cursor)
        page = await store.find(self._database, after, limit, self._limits.max_page_bytes)
        following = pagination.encode_cursor(page.macros[-1][0]) if page.more else None
        return [macro for _, macro in page.macros], following

    async def get(self, name: str) -> Macro:
        """Return a macro. Raises NotFound."""
        macro = await store.get(self._database, name) if is_valid_name(name) else None
        if macro is None:
            raise _not_found(name)
        return macro

    async def create(self, origin: WriteOrigin, name: str, fields: MacroFields) -> Macro:
        """Create a macro and return it. Raises Conflict if its name is taken, or if there are too many macros."""
        async with unit_of_work(self._database, origin, MACROS) as work:
            return await self._add(work, name, fields)

    async def put(
        self, origin: WriteOrigin, name: str, fields: MacroFields, expected: ExpectedVersions = None
    ) -> tuple[Macro, bool]:
        """Replace a macro, or create it if there is none of the name; return it, and whether it was created.

        Fields without a change leave the version as it is. Raises ValidationFailed for a name that no macro can have,
        VersionConflict, and Conflict if there are too many macros or another request creates the macro at this moment.
        """
        expect_valid_name(name, "macro")
        async with unit_of_work(self._database, origin, MACROS) as work:
            before = await store.lock(work.tx, name)
            expect_resource_version(before, expected, "macro_changed", "macro")
            if before is None:
                return await self._add(work, name, fields), True
            if before.fields == fields:
                return before, False
            at = time_after(before.updated_at)
            after = before.model_copy(update=fields._asdict() | {"updated_at": at, "version": before.version + 1})
            await store.update(work.tx, after)
            await _record(work, "macro.changed", at, before=before, after=after)
        return after, False

    async def delete(self, origin: WriteOrigin, name: str, expected: ExpectedVersions = None) -> None:
        """Delete a macro. Raises NotFound and VersionConflict."""
        async with unit_of_work(self._database, origin, MACROS) as work:
            before = await store.lock(work.tx, name) if is_valid_name(name) else None
            if before is None:
                raise _not_found(name)
            expect_resource_version(before, expected, "macro_changed", "macro")
            await store.delete(work.tx, name)
            await _record(work, "macro.deleted", time_after(before.updated_at), before=before)

    async def _add(self, work: UnitOfWork, name: str, fields: MacroFields) -> Macro:
        at = utc_now()
        # A macro that is deleted and created again gets later versions than before, so no old ETag is valid for it.
        version = to_micros(at)
        macro = Macro.model_construct(name=name, **fields._asdict(), created_at=at, updated_at=at, version=version)
        number = await store.lock_number(work.tx)
        if not await store.add(work.tx, macro):
            raise Conflict("macro_exists", f"There is a macro {name!r}; choose another name, or replace it with PUT.")
        if number >= self._limits.max_macros:  # rolls the new one back
            limit = f"{self._limits.max_macros:,} macros, the limit"
            raise Conflict("too_many_macros", f"There are {limit}; delete one that is not used any more.")
        await _record(work, "macro.created", at, after=macro)
        return macro


def _not_found(name: str) -> NotFound:
    return NotFound("macro_not_found", f"There is no macro {name[:64]!r}.")


async def _record(
    work: UnitOfWork, action: audit.Action, at: datetime, *, before: Macro | None = None, after: Macro | None = None
) -> None:
    """Record a change in the audit log: an entry of no case, as for overrides, with the name of the macro."""
    changes = {macro.name: (_audited(before), _audited(after)) for macro in (before, after) if macro}
    await audit.record(work, None, action, at, changes)


def _audited(macro: Macro | None) -> Mapping[str, Any] | None:
    return macro.fields._asdict() if macro else None

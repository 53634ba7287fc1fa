"""Named resources: what supervisors create, replace and delete under names, such as macros.

Each change is one transaction. It is recorded in the audit log, in an entry of no case with the name of the resource.
Changes of one kind of resource are rare, so they wait for each other, and the limit on their number holds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa

from support_service.core.clock import time_after, to_micros, utc_now
from support_service.core.errors import FieldError, SupportError, problem
from support_service.core.ids import is_valid_name
from support_service.core.optimistic_lock import ExpectedVersions, check_resource_version, next_time_version
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database, Row, Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work

# Columns that the rows of every kind have besides the name and the content.
COMMON_COLUMNS = ("created_at", "updated_at", "version")


class ResourceContent(Protocol):
    """What supervisors set of a resource, besides its name."""

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is compared, and recorded in the audit log."""


class NamedResource(ResourceContent, Protocol):
    """A resource: its content, and what the service sets of it."""

    created_at: datetime
    updated_at: datetime
    version: int

    @property
    def name(self) -> str:
        """What it is called; it never changes."""


ContentT = TypeVar("ContentT", bound=ResourceContent)
ResourceT = TypeVar("ResourceT", bound=NamedResource)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """A kind of named resources: where it is stored, how it is called, and what its changes and problems are called."""

    table: sa.Table
    name_column: str = "name"
    is_valid_name: Callable[[str], bool] = is_valid_name
    name_rule: str = "must have 1 to 64 letters, digits, - _ or . and begin with a letter or digit"
    current_conditions: tuple[sa.ColumnElement[bool], ...] = ()  # conditions of the rows that are no earlier versions
    noun: str
    full_noun: str
    full_plural: str
    created_action: audit.Action
    changed_action: audit.Action
    deleted_action: audit.Action
    not_found_code: str
    changed_code: str
    exists_code: str
    exists_message: str  # with {name}
    too_many_code: str


class NamedResources(ABC, Generic[ContentT, ResourceT]):
    """Reads and changes the resources of one kind, of which there are at most `most`."""

    def __init__(self, database: Database, kind: ResourceKind, max_resources: int) -> None:
        self._database = database
        self._kind = kind
        self._max_resources = max_resources
        self._contended_row = ContendedRow(kind.table.name)  # all of them
        seq = kind.table.c.seq
        self._select_current = sa.select(kind.table).where(*kind.current_conditions)
        self._name = kind.table.c[kind.name_column]
        self._select_by_name = self._select_current.where(self._name == sa.bindparam("of"))
        self._lock_by_name = self._select_by_name.with_for_update()
        self._insert = insert_if_new(kind.table).inline()
        self._lock_oldest = sa.select(seq).where(*kind.current_conditions).order_by(seq).limit(1).with_for_update()
        self._count_current = sa.select(sa.func.count(seq).label("number")).where(*kind.current_conditions)

    async def get(self, name: str) -> ResourceT:
        """Return a resource."""
        row = (
            await self._database.fetch_now(self._select_by_name, {"of": name})
            if self._kind.is_valid_name(name)
            else None
        )
        if row is None:
            raise self._not_found(name)
        return self._to_resource(row)

    async def put(
        self, origin: WriteOrigin, name: str, content: ContentT, expected: ExpectedVersions = None
    ) -> tuple[ResourceT, bool]:
        """Replace a resource, or create it if there is none of the name; return it, and whether it was created.

        The same content leaves the version as it is.
        """
        return await self.replace(origin, name, lambda _: content, expected)

    async def replace(
        self,
        origin: WriteOrigin,
        name: str,
        content_after: Callable[[ResourceT | None], ContentT],
        expected: ExpectedVersions = None,
    ) -> tuple[ResourceT, bool]:
        """Give a resource the content that follows the present one, which is None for a new resource.

        Return the resource, and whether it was created.
        """
        if not self._kind.is_valid_name(name):
            wrong = FieldError("name", self._kind.name_rule)
            message = f"The name in the path can't be the name of a {self._kind.noun}."
            raise problem("invalid_request", message, [wrong])
        async with unit_of_work(self._database, origin, self._contended_row) as work:
            before = await self._lock_resource(work.tx, name)
            self._check_version(before, expected)
            content = content_after(before)
            if before is not None and before.content_json() == content.content_json():
                return before, False
            after = (
                await self._change_resource(work, before, content)
                if before
                else await self._create_resource(work, name, content)
            )
        await self._after_commit()
        return after, before is None

    async def delete(self, origin: WriteOrigin, name: str, expected: ExpectedVersions = None) -> None:
        """Delete a resource."""
        async with unit_of_work(self._database, origin, self._contended_row) as work:
            before = await self._lock_resource(work.tx, name) if self._kind.is_valid_name(name) else None
            if before is None:
                raise self._not_found(name)
            self._check_version(before, expected)
            await self._remove_by_name(work.tx, name)
            await _record_audit_entry(work, self._kind.deleted_action, time_after(before.updated_at), before, None)
        await self._after_commit()

    @abstractmethod
    def _build_resource(self, content: Mapping[str, Any], common: Mapping[str, Any]) -> ResourceT:
        """Return the resource with this content, as `content_json` returns it.

        `common` has its name and the values of COMMON_COLUMNS.
        """

    @abstractmethod
    def _content_from_row(self, row: Row) -> Mapping[str, Any]:
        """Return the content that a row stores."""

    @abstractmethod
    def _columns_from_content(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the columns that store a content."""

    async def _after_commit(self) -> None:
        """Do what follows a committed change."""

    async def _create_resource(self, work: UnitOfWork, name: str, content: ContentT) -> ResourceT:
        at = utc_now()
        # A resource that is deleted and created again gets later versions than before, so no old ETag is valid for it.
        common = {"name": name, "created_at": at, "updated_at": at, "version": to_micros(at)}
        resource, kind = self._build_resource(content.content_json(), common), self._kind
        await work.tx.fetch_now(self._lock_oldest)
        # A statement of its own, so that it sees what was committed while the one before waited.
        row = await work.tx.fetch_now(self._count_current)
        if not await work.tx.execute(self._insert, self._row_values(resource)):
            raise problem(kind.exists_code, kind.exists_message.format(name=repr(name)))
        if row and row.number >= self._max_resources:  # rolls the new one back
            limit = f"{self._max_resources:,} {kind.full_plural}, the limit"
            raise problem(kind.too_many_code, f"There are {limit}; delete one that is not used any more.")
        await _record_audit_entry(work, kind.created_action, at, None, resource)
        return resource

    async def _change_resource(self, work: UnitOfWork, before: ResourceT, content: ContentT) -> ResourceT:
        at, version = next_time_version(before.updated_at, before.version)
        common = {"name": before.name, "created_at": before.created_at, "updated_at": at, "version": version}
        after = self._build_resource(content.content_json(), common)
        await self._store_changed(work.tx, after)
        await _record_audit_entry(work, self._kind.changed_action, after.updated_at, before, after)
        return after

    async def _lock_resource(self, tx: Transaction, name: str) -> ResourceT | None:
        """Lock a resource until the transaction ends; return it, or None."""
        row = await tx.fetch_now(self._lock_by_name, {"of": name})
        return self._to_resource(row) if row else None

    async def _store_changed(self, tx: Transaction, resource: ResourceT) -> None:
        table = self._kind.table
        await tx.execute(table.update().where(self._name == resource.name).values(self._row_values(resource)))

    async def _remove_by_name(self, tx: Transaction, name: str) -> None:
        await tx.execute(self._kind.table.delete().where(self._name == name))

    def _to_resource(self, row: Row) -> ResourceT:
        common = {name: getattr(row, name) for name in COMMON_COLUMNS}
        return self._build_resource(
            self._content_from_row(row), common | {"name": getattr(row, self._kind.name_column)}
        )

    def _row_values(self, resource: ResourceT) -> dict[str, Any]:
        common = {name: getattr(resource, name) for name in COMMON_COLUMNS} | {self._kind.name_column: resource.name}
        return {**common, **self._columns_from_content(resource.content_json())}

    def _check_version(self, resource: ResourceT | None, expected: ExpectedVersions) -> None:
        check_resource_version(resource, expected, self._kind.changed_code, self._kind.noun)

    def _not_found(self, name: str) -> SupportError:
        return problem(self._kind.not_found_code, f"There is no {self._kind.full_noun} {name[:64]!r}.")


async def _record_audit_entry(
    work: UnitOfWork, action: audit.Action, at: datetime, before: NamedResource | None, after: NamedResource | None
) -> None:
    old, new = (resource.content_json() if resource else None for resource in (before, after))
    changes = {resource.name: (old, new) for resource in (before, after) if resource}
    await audit.record(work, None, action, at, changes)

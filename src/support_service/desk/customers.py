"""Records of customers: names, contacts, notes of staff, and which ids are of one person.

They are not named resources: there may be a million, so their changes neither wait for each other nor count them. Cases
keep their `customerId`. Two columns say that several ids are of one person. `merged_into` says what somebody has
merged. `person` follows from it, and names the id whose record is the person's, so that no read follows a chain.

A transaction that changes `merged_into` or `person` of a record holds the lock of merges and the row of the person.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core.clock import to_micros, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import FieldError, SupportError, problem
from support_service.core.ids import ID_LENGTH, new_id
from support_service.core.optimistic_lock import MISSING, ExpectedVersions, next_time_version, resource_conflict
from support_service.desk.customer_models import (
    MAX_IDENTITIES,
    Contact,
    Customer,
    CustomerChange,
    CustomerContent,
    CustomerSearch,
    FoundCustomers,
    person_columns,
)
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database, Row, RowReader, Transaction
from support_service.platform.database.dialect import SORTED_TEXT, LockNumber, insert_if_new, json_rows, take_lock
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import customer_terms, customers, tickets
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work

# Other texts can't be the id of a customer, and a database refuses some of them.
_CUSTOMER_ID = re.compile(rf"[^\0\ud800-\udfff]{{1,{ID_LENGTH}}}")
_C, _T = customers.c, customer_terms.c
_id, _ids = sa.bindparam("id", type_=_C.id.type), sa.bindparam("ids", expanding=True, type_=_C.id.type)
_END_OF_PREFIX = "\U0010ffff"  # sorted after every other character
_LINKS = ("merged_into", "person", "person_name")
MERGES = ContendedRow("merges of customers")
LOCK_MERGES = take_lock(LockNumber.CUSTOMER_MERGES)
RECORD = compiled(sa.select(customers).where(_C.id == _id))
LOCK_RECORD = compiled(sa.select(customers).where(_C.id == _id).with_for_update())
LOCK_RECORDS = sa.select(_C.id).where(_C.id.in_(_ids)).order_by(_C.id).with_for_update()
PERSONS = sa.select(_C.id, sa.func.coalesce(_C.person, _C.id).label("person")).where(_C.id.in_(_ids))
RECORDS_OF_PERSONS = sa.select(customers).where(sa.or_(_C.id.in_(_ids), _C.person.in_(_ids)))
CUSTOMERS_WITH_CASES = sa.select(tickets.c.customer_id).where(tickets.c.customer_id.in_(_ids)).distinct()
ADD_RECORD = compiled(insert_if_new(customers).inline())
ADD_RECORDS = insert_if_new(customers).returning(_C.id)
ADD_TERM = compiled(customer_terms.insert().inline())
REMOVE_TERMS = customer_terms.delete().where(_T.customer_id == _id, _T.term.in_(sa.bindparam("terms", expanding=True)))
SET_LINKS = compiled(
    customers.update()
    .where(_C.id == sa.bindparam("of"))
    .values({name: sa.bindparam(f"new_{name}", type_=_C[name].type) for name in _LINKS})
)


def _with_identities(record: sa.FromClause) -> sa.Select[Any]:
    """Return the SELECT of records, with all ids of the person as JSON; empty for a person with one id."""
    member = customers.alias("member")
    ids = sa.select(json_rows(member.c.id)).where(member.c.person == record.c.person).correlate(record)
    return sa.select(*record.c, sa.cast(ids.scalar_subquery(), sa.Text).label("identities"))


def _read_statement() -> sa.Select[Any]:
    person = sa.select(_C.person).where(_C.id == _id).scalar_subquery()
    record = customers.alias("record")
    return compiled(_with_identities(record).where(record.c.id == sa.func.coalesce(person, _id)))


def _find_statement(*, by_name: bool) -> sa.Select[Any]:
    """Return the SELECT of the persons with the first terms that are sought, each id with its first one."""

    def is_sought(terms: sa.FromClause) -> sa.ColumnElement[bool]:
        if not by_name:
            return terms.c.term.in_(sa.bindparam("terms", expanding=True, type_=SORTED_TEXT))
        first, end = (sa.bindparam(name, type_=SORTED_TEXT) for name in ("first", "end"))
        return sa.and_(terms.c.term >= first, terms.c.term < end)

    earlier = customer_terms.alias("earlier")
    is_earlier = (earlier.c.customer_id == _T.customer_id, is_sought(earlier), earlier.c.term < _T.term)
    found = (
        sa.select(_T.term, _T.customer_id)
        .where(is_sought(customer_terms), ~sa.exists().where(*is_earlier))
        .order_by(_T.term, _T.customer_id)
        .limit(sa.bindparam("one_more"))
        .subquery()
    )
    identity, record = customers.alias("identity"), customers.alias("record")
    return (
        _with_identities(record)
        .join_from(found, identity, identity.c.id == found.c.customer_id)
        .join(record, record.c.id == sa.func.coalesce(identity.c.person, identity.c.id))
        .order_by(found.c.term, found.c.customer_id)
    )


READ = _read_statement()
FIND = {by_name: _find_statement(by_name=by_name) for by_name in (False, True)}


class CustomerRecords:
    """Reads and changes the records of customers. Changes cause no events: the events are about cases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, principal: Principal, customer_id: str) -> Customer | None:
        """Return the record of the person with an id, or None."""
        row = await self._database.fetch_now(READ, {"id": customer_id})
        return _shown_to(principal, row) if row else None

    async def find(self, principal: Principal, search: CustomerSearch) -> FoundCustomers:
        """Return the persons with a name or a contact, by the words of the name."""
        sought = search.contact_terms
        if not (sought or search.name_prefix):
            return FoundCustomers(items=[], more=False)
        prefix = search.name_prefix
        terms = {"terms": sought} if sought else {"first": prefix, "end": prefix + _END_OF_PREFIX}
        rows = await self._database.fetch_all(FIND[not sought], {**terms, "one_more": search.limit + 1})
        persons = {row.id: _shown_to(principal, row) for row in rows[: search.limit]}
        return FoundCustomers.model_construct(items=list(persons.values()), more=len(rows) > search.limit)

    async def change(
        self, origin: WriteOrigin, customer_id: str, change: CustomerChange, expected: ExpectedVersions = None
    ) -> tuple[Customer, bool]:
        """Change a record, or add it; return it, and whether it is new.

        Raises VersionConflict, and Conflict for an id that was merged into another one.
        """
        async with unit_of_work(self._database, origin, ContendedRow(f"customer {customer_id}")) as work:
            tx, row, created = work.tx, await work.tx.fetch_now(LOCK_RECORD, {"id": customer_id}), False
            _check_version(row, expected)
            if row is None:
                created = bool(await tx.execute(ADD_RECORD, _new_record(customer_id, CustomerContent())))
                row = await tx.fetch_now(LOCK_RECORD, {"id": customer_id})
                if not created:
                    _check_version(row, expected)
            assert row is not None  # noqa: S101 - it was added, by this transaction or another one
            if row.person not in (None, customer_id):
                text = f"The customer was merged into {row.person!r}: change that one, or separate them first."
                raise problem("customer_merged", text)
            before = _content_of(row)
            after = before.model_copy(update=change.sent_fields())
            changed = [name for name in CustomerContent.model_fields if getattr(before, name) != getattr(after, name)]
            if changed or created:
                await _store(tx, row, before, after)
                fields = {"customer": (None, row.audit_id), "fields": (None, changed)}
                await audit.record(work, None, "customer.created" if created else "customer.changed", utc_now(), fields)
            return await self._read_changed(work, customer_id), created

    async def merge(
        self, origin: WriteOrigin, customer_id: str, into: str, expected: ExpectedVersions = None
    ) -> Customer:
        """Merge a customer, with all ids that were merged into it, into the person with another id; return the person.

        Raises NotFound for an id without record and cases, ValidationFailed if both ids are the same, and
        VersionConflict. Raises Conflict for an id that was merged into another person, and for a person with too many
        ids.
        """
        if not is_customer_id(customer_id):
            raise customer_not_found(customer_id)
        if customer_id == into:
            wrong = FieldError("into", "must be the id of another customer")
            raise problem("invalid_request", "A customer can't be merged into itself.", [wrong])
        async with unit_of_work(self._database, origin, MERGES) as work:
            await work.tx.fetch_now(LOCK_MERGES)
            await _add_missing(work.tx, [customer_id, into])
            found = await _lock_persons(work.tx, [customer_id, into])
            former, person = (_person_of(found[each]) for each in (customer_id, into))
            _check_version(found[former], expected)
            if former == person:
                return await self._read_changed(work, person)
            if customer_id != former:
                text = f"{customer_id[:64]!r} was merged into {former!r}: merge that one, or separate them first."
                raise problem("customer_already_merged", text)
            if len(found) > MAX_IDENTITIES:
                text = f"The person would have {len(found)} ids, and the limit is {MAX_IDENTITIES}."
                raise problem("too_many_identities", text)
            await _set_links(work.tx, found, {customer_id: person})
            await _record_link(work, "customer.merged", found[person], found[customer_id])
            return await self._read_changed(work, person)

    async def separate(
        self, origin: WriteOrigin, customer_id: str, other: str, expected: ExpectedVersions = None
    ) -> None:
        """Undo the merge of an id: it is a person again, with the ids that were merged into it.

        Raises NotFound if it was not merged into this person, and VersionConflict.
        """
        async with unit_of_work(self._database, origin, MERGES) as work:
            await work.tx.fetch_now(LOCK_MERGES)
            found = await _lock_persons(work.tx, [customer_id] if is_customer_id(customer_id) else ())
            merged = found.get(other)
            if customer_id not in found or merged is None or merged.merged_into is None:
                raise problem("identity_not_found", f"{other[:64]!r} was not merged into this customer.")
            person = found[_person_of(merged)]
            _check_version(person, expected)
            await _set_links(work.tx, found, {other: None})
            await _record_link(work, "customer.separated", person, merged)

    async def _read_changed(self, work: UnitOfWork, customer_id: str) -> Customer:
        row = await work.tx.fetch_now(READ, {"id": customer_id})
        assert row is not None  # noqa: S101 - this transaction has locked it
        return _shown_to(work.origin.principal, row)


def is_customer_id(text: str) -> bool:
    """Return whether a text can be the id of a customer."""
    return _CUSTOMER_ID.fullmatch(text) is not None


async def read_identities(reader: RowReader, customer_id: str) -> list[str]:
    """Return all ids of a person, that of the record first; empty for a customer without a record."""
    row = await reader.fetch_now(READ, {"id": customer_id})
    return _identities(row) if row else []


async def read_content(reader: RowReader, customer_id: str) -> CustomerContent | None:
    """Return what the record of an id says, not that of the person; None without a record."""
    row = await reader.fetch_now(RECORD, {"id": customer_id})
    return _content_of(row) if row else None


async def add_absent(tx: Transaction, contents: Mapping[str, CustomerContent]) -> None:
    """Add the records of customers who have none."""
    if not contents:
        return
    rows = await tx.fetch_all(ADD_RECORDS, [_new_record(each, content) for each, content in sorted(contents.items())])
    terms = [{"customer_id": row.id, "term": term} for row in rows for term in sorted(contents[row.id].terms)]
    if terms:
        await tx.execute(ADD_TERM, terms)


async def erase_contents(tx: Transaction, ids: Collection[str]) -> None:
    """Remove what the records of customers say, also where it is shown with other ids. The links stay."""
    # Before the terms: a change that is not committed yet may still add some. A record that is added meanwhile is not
    # locked, and left as it is: its terms might come after they are removed, and before its contents are.
    await tx.fetch_now(LOCK_MERGES)
    found = await _lock_persons(tx, ids)
    erased = [each for each in found if each in ids]
    await tx.execute(customer_terms.delete().where(_T.customer_id.in_(erased)))
    await tx.execute(customers.update().where(_C.id.in_(erased)).values(name=None, contacts=[], notes=None))
    await tx.execute(customers.update().where(_C.person.in_(erased)).values(person_name=None))


async def remove(tx: Transaction, ids: Collection[str]) -> Sequence[Row]:
    """Delete records with their links; return them. What was merged into one is a person of its own again."""
    await tx.fetch_now(LOCK_MERGES)
    found = await _lock_persons(tx, ids)
    removed = [row for each, row in found.items() if each in ids]
    await tx.execute(customers.delete().where(_C.id.in_([row.id for row in removed])))
    left = {each: row for each, row in found.items() if each not in ids}
    await _set_links(tx, left, {each: None for each, row in left.items() if row.merged_into in ids})
    return removed


async def read_unused(reader: RowReader, before: datetime, after: str, count: int) -> list[str]:
    """Return the first ids after another one that have a record, not changed since `before`, and no case."""
    has_case = sa.exists().where(tickets.c.customer_id == _C.id)
    unused = sa.select(_C.id).where(_C.id > after, _C.updated_at <= before, ~has_case).order_by(_C.id).limit(count)
    return [row.id for row in await reader.fetch_all(unused)]


async def remove_unused(tx: Transaction, ids: Collection[str], before: datetime) -> int:
    """Delete the records of persons who have no case any more, if they are not changed since `before`.

    Return their number.
    """
    await tx.fetch_now(LOCK_MERGES)
    found = await _lock_persons(tx, ids)
    if not found:
        return 0
    with_cases = {row.customer_id for row in await tx.fetch_all(CUSTOMERS_WITH_CASES, {"ids": [*found]})}
    used = {_person_of(row) for each, row in found.items() if each in with_cases or row.updated_at > before}
    unused = [each for each, row in found.items() if _person_of(row) not in used]
    return await tx.execute(customers.delete().where(_C.id.in_(unused))) if unused else 0


def _check_version(row: Row | None, expected: ExpectedVersions) -> None:
    if expected is not None and (row.version if row else MISSING) not in expected:
        raise resource_conflict(expected, "customer_changed", "record of the customer")


def _person_of(row: Row) -> str:
    return str(row.person or row.id)


async def _add_missing(tx: Transaction, ids: Sequence[str]) -> None:
    """Add empty records for customers who have only cases. Raises NotFound for a customer without both."""
    known = {row.id for row in await tx.fetch_all(PERSONS, {"ids": [*ids]})}
    missing = [each for each in ids if each not in known]
    if not missing:
        return
    with_cases = {row.customer_id for row in await tx.fetch_all(CUSTOMERS_WITH_CASES, {"ids": missing})}
    for each in missing:
        if each not in with_cases:
            raise customer_not_found(each)
        await tx.execute(ADD_RECORD, _new_record(each, CustomerContent()))


async def _lock_persons(tx: Transaction, ids: Collection[str]) -> dict[str, Row]:
    """Lock the persons with some ids; return the record of each of their ids. The lock of merges is held."""
    persons = {row.person for row in await tx.fetch_all(PERSONS, {"ids": [*ids]})} if ids else set[str]()
    if not persons:
        return {}
    await tx.fetch_all(LOCK_RECORDS, {"ids": sorted(persons)})
    return {row.id: row for row in await tx.fetch_all(RECORDS_OF_PERSONS, {"ids": [*persons]})}


async def _set_links(tx: Transaction, found: Mapping[str, Row], changed: Mapping[str, str | None]) -> None:
    """Change what ids were merged into, and what follows from it, in the records of locked persons."""
    merged_into = {each: row.merged_into for each, row in found.items()} | {**changed}
    persons, updates = person_columns(merged_into), list[dict[str, Any]]()
    for each, row in found.items():
        person = persons[each]
        name = found[person].name if person not in (None, each) else None
        new = (merged_into[each], person, name)
        if new != (row.merged_into, row.person, row.person_name):
            updates.append({"of": each, **{f"new_{name}": value for name, value in zip(_LINKS, new, strict=True)}})
    if updates:
        await tx.execute(SET_LINKS, updates)


async def _record_link(work: UnitOfWork, action: audit.Action, person: Row, other: Row) -> None:
    values = _next_version(person)
    await work.tx.execute(customers.update().where(_C.id == person.id).values(values))
    changes = {"customer": (None, person.audit_id), "other": (None, other.audit_id)}
    await audit.record(work, None, action, values["updated_at"], changes)


async def _store(tx: Transaction, row: Row, before: CustomerContent, after: CustomerContent) -> None:
    """Store the content of a locked record, and what follows from it."""
    values = _next_version(row) | _columns_of(after)
    await tx.execute(customers.update().where(_C.id == row.id).values(values))
    if row.person is not None and before.name != after.name:
        of_person = customers.update().where(_C.person == row.id, _C.id != row.id)
        await tx.execute(of_person.values(person_name=after.name))
    if removed := before.terms - after.terms:
        await tx.execute(REMOVE_TERMS, {"id": row.id, "terms": sorted(removed)})
    if added := after.terms - before.terms:
        await tx.execute(ADD_TERM, [{"customer_id": row.id, "term": term} for term in sorted(added)])


def _next_version(row: Row) -> dict[str, Any]:
    at, version = next_time_version(row.updated_at, row.version)
    return {"updated_at": at, "version": version}


def _new_record(customer_id: str, content: CustomerContent) -> dict[str, Any]:
    at = utc_now()
    common = {"id": customer_id, "audit_id": new_id(), "created_at": at, "updated_at": at, "version": to_micros(at)}
    return common | _columns_of(content) | dict.fromkeys(("merged_into", "person", "person_name"))


def _columns_of(content: CustomerContent) -> dict[str, Any]:
    contacts = [contact.model_dump(by_alias=True) for contact in content.contacts]
    return {"name": content.name, "contacts": contacts, "notes": content.notes}


def _content_of(row: Row) -> CustomerContent:
    contacts = [Contact.model_construct(**each) for each in row.contacts]
    return CustomerContent.model_construct(name=row.name, contacts=contacts, notes=row.notes)


def _identities(row: Row) -> list[str]:
    others: Iterable[str] = pydantic_core.from_json(row.identities)
    return [row.id, *sorted(each for each in others if each != row.id)]


def _shown_to(principal: Principal, row: Row) -> Customer:
    """Return the record of a person. Services are not shown the notes of staff."""
    content = _content_of(row).__dict__
    return Customer.model_construct(
        **content | ({"notes": None} if principal.role == "service" else {}),
        customer_id=row.id,
        identities=_identities(row),
        audit_id=row.audit_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def customer_not_found(customer_id: str) -> SupportError:
    """Return the error for a customer of whom the service knows nothing that the caller may see."""
    return problem("customer_not_found", f"There is no customer {customer_id[:64]!r} with a case or a record.")

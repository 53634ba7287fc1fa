"""MacroService on both databases: versions, limits, pages and the audit log."""

import asyncio

import pytest
import sqlalchemy as sa
from pydantic_core import from_json

from support_service.core.clock import to_micros
from support_service.core.errors import NotFound, VersionConflict
from support_service.desk.macro_models import MacroContent
from support_service.desk.macros import MacroService
from support_service.platform.database.tables import audit_log, outbox
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import code_of

pytestmark = both_databases
FIELDS = MacroContent(text="Hello {{customer.id}}", status="pending", tags=["delivery"])
OTHER = MacroContent(text="Bye")


@pytest.fixture
def service(database):
    return MacroService(database)


async def audited(database):
    """Return (action, case, changes) of each entry of the audit log."""
    rows = await database.fetch_all(sa.select(audit_log).order_by(audit_log.c.seq))
    return [(row.action, row.case_id, from_json(row.changes)) for row in rows]


async def test_every_change_is_in_the_audit_log(service, database):
    """With the name of the macro and its content before and after; no case has the entry, and no event is published."""
    await service.put(SYSTEM_ORIGIN, "hello", FIELDS)
    await service.put(SYSTEM_ORIGIN, "hello", OTHER)
    await service.put(SYSTEM_ORIGIN, "hello", OTHER)  # changes nothing
    await service.delete(SYSTEM_ORIGIN, "hello")
    first, second = (fields.content_json() for fields in (FIELDS, OTHER))
    assert await audited(database) == [
        ("macro.created", None, {"hello": [None, first]}),
        ("macro.changed", None, {"hello": [first, second]}),
        ("macro.deleted", None, {"hello": [second, None]}),
    ]
    assert await database.fetch_all(sa.select(outbox)) == []


async def test_replaced_macro_has_a_later_version(service):
    """The time of the change, unless nothing changes; the time of creation stays."""
    created, is_new = await service.put(SYSTEM_ORIGIN, "hello", FIELDS)
    assert (await service.get("hello"), created.content_json()) == (created, FIELDS.content_json())
    same, is_new_again = await service.put(SYSTEM_ORIGIN, "hello", FIELDS, {created.version})
    assert (same, is_new, is_new_again) == (created, True, False)
    changed, _ = await service.put(SYSTEM_ORIGIN, "hello", OTHER, {created.version})
    assert changed == await service.get("hello")
    assert changed.version == to_micros(changed.updated_at) > created.version
    assert changed.created_at == created.created_at
    assert changed.content_json() == OTHER.content_json()
    assert changed.updated_at > created.updated_at


async def test_change_of_an_outdated_version_is_refused(service):
    """Also of a macro that is deleted, or that was created again after that."""
    created = await service.create(SYSTEM_ORIGIN, "hello", FIELDS)
    changed, _ = await service.put(SYSTEM_ORIGIN, "hello", OTHER)
    for change in (
        service.put(SYSTEM_ORIGIN, "hello", FIELDS, {created.version}),
        service.delete(SYSTEM_ORIGIN, "hello", {created.version}),
    ):
        with pytest.raises(VersionConflict):
            await change
    assert await service.get("hello") == changed
    await service.delete(SYSTEM_ORIGIN, "hello", {changed.version})
    with pytest.raises(VersionConflict):
        await service.put(SYSTEM_ORIGIN, "hello", FIELDS, {changed.version})
    with pytest.raises(NotFound):
        await service.get("hello")
    assert (await service.create(SYSTEM_ORIGIN, "hello", FIELDS)).version not in (created.version, changed.version)


async def test_names_are_unique_and_case_sensitive(service):
    await service.create(SYSTEM_ORIGIN, "hello", FIELDS)
    assert await code_of(service.create(SYSTEM_ORIGIN, "hello", OTHER)) == "macro_exists"
    await service.create(SYSTEM_ORIGIN, "Hello", OTHER)
    texts = [(await service.get(name)).text for name in ("hello", "Hello")]
    assert texts == [FIELDS.text, OTHER.text]


async def test_number_of_macros_is_limited(two_databases):
    """Also if several replicas create some at the same moment; existing macros can be replaced."""
    replicas = [MacroService(each, max_macros=3) for each in two_databases]
    await replicas[0].create(SYSTEM_ORIGIN, "macro-0", FIELDS)
    creating = (replicas[number % 2].put(SYSTEM_ORIGIN, f"macro-{number}", FIELDS) for number in range(1, 7))
    refused = [each for each in await asyncio.gather(*creating, return_exceptions=True) if isinstance(each, Exception)]
    assert [each.code for each in refused] == ["too_many_macros"] * 4
    listed, _ = await replicas[1].list_macros(None, 50)
    assert len(listed) == 3
    await replicas[1].put(SYSTEM_ORIGIN, "macro-0", OTHER)
    await replicas[1].delete(SYSTEM_ORIGIN, "macro-0")
    await replicas[0].create(SYSTEM_ORIGIN, "macro-9", FIELDS)


async def test_pages_have_all_macros_once(database):
    """Oldest first. A page ends early if its texts are long as they are stored, or as JSON."""
    service = MacroService(database, max_page_bytes=100)
    texts = ["short", "also short", "x" * 95, "\x01" * 20, "short again"]
    for number, text in enumerate(texts):
        await service.create(SYSTEM_ORIGIN, f"macro-{number}", FIELDS.model_copy(update={"text": text}))
    cursor, pages = None, []
    while True:
        page, cursor = await service.list_macros(cursor, 4)
        pages.append([texts.index(macro.text) for macro in page])
        if cursor is None:
            break
    assert pages == [[0, 1, 2], [3], [4]]
    assert await MacroService(database).list_macros(None, 5) == (
        [await service.get(f"macro-{number}") for number in range(5)],
        None,
    )

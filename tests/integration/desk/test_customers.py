"""Records of customers, on both databases: what is found of them, and what is read of merged ones."""

import asyncio
from collections import Counter

import pytest

from support_service.core.domain.principals import SYSTEM
from support_service.core.optimistic_lock import MISSING
from support_service.desk.customer_models import CustomerChange, CustomerSearch
from support_service.desk.customers import CustomerRecords
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import code_of

pytestmark = both_databases
CONTACTS = [{"kind": "email", "value": "Anna@Example.org"}, {"kind": "phone", "value": "+43 1 5550-123"}]
CONTACTS.append({"kind": "other", "value": "@anna", "label": "chat"})
ANNA = {"name": "Anna Bergér", "contacts": CONTACTS, "notes": "Call her in the morning."}


@pytest.fixture
def records(database):
    return CustomerRecords(database)


async def put(records, customer_id, expected=None, **fields):
    customer, _ = await records.change(SYSTEM_ORIGIN, customer_id, CustomerChange.model_validate(fields), expected)
    return customer


async def find(records, **query):
    found = await records.find(SYSTEM, CustomerSearch.model_validate(query))
    return [each.customer_id for each in found.items], found.more


async def test_record_is_added_and_changed(records):
    """Fields that are not sent stay, null clears one, and a change that changes nothing keeps the version."""
    added = await put(records, "c-1", **ANNA)
    assert await records.read(SYSTEM, "c-1") == added
    assert [each.value for each in added.contacts] == [each["value"] for each in CONTACTS]
    changed = await put(records, "c-1", {added.version}, name="Anna B.", notes=None)
    assert (changed.name, changed.contacts, changed.notes) == ("Anna B.", added.contacts, None)
    assert await put(records, "c-1", name="Anna B.") == changed
    stale = records.change(SYSTEM_ORIGIN, "c-1", CustomerChange(name="A"), {added.version})
    assert await code_of(stale) == "customer_changed"
    assert await records.read(SYSTEM, "c-2") is None


async def test_of_several_new_records_of_one_customer_one_is_added(two_databases):
    """If each is to be new."""
    records = [CustomerRecords(each) for each in two_databases]
    adding = (
        records[number % 2].change(SYSTEM_ORIGIN, "c-1", CustomerChange(name=f"{number}"), {MISSING})
        for number in range(6)
    )
    codes = Counter(await asyncio.gather(*map(code_of, adding)))
    assert codes == {None: 1, "customer_changed": 5}


async def test_customers_are_found(records):
    """By the beginning of each word of the name, and by exactly a contact, as they are now."""
    await put(records, "c-1", **ANNA)
    await put(records, "c-2", name="Annabel Anna Anna")
    await put(records, "c-3", name="Nguyễn Văn Linh")
    await put(records, "c-4", name="Zoe", contacts=[{"kind": "email", "value": "zoe@example.org"}])
    await put(records, "c-4", name="Bea", contacts=[{"kind": "email", "value": "bea@example.org"}])
    for query, expected in {
        "anna": ["c-2", "c-1"],
        "ANNA BER": ["c-1"],
        "Berger, Anna": ["c-1"],
        "linh nguyễn": ["c-3"],
        "van linh": ["c-3"],
        "erger": [],
        "!!": [],
        "anna@example.org": ["c-1"],
        "+43 (1) 5550123": ["c-1"],
        "zoe": [],
        "bea": ["c-4"],
        "zoe@example.org": [],
        "bea@example.org": ["c-4"],
    }.items():
        assert await find(records, q=query) == (expected, False), query
    for contact, expected in {"@Anna": ["c-1"], "+4315550123": ["c-1"], "anna@example.or": []}.items():
        assert await find(records, contact=contact) == (expected, False), contact
    assert await find(records, q="anna", limit=1) == (["c-2"], True)


async def test_ids_of_one_person_are_read_as_one_customer(records):
    """With the ids that were merged into them, and under any of these. Undoing a merge restores what was before."""
    before = [await put(records, each, name=each.upper()) for each in "abc"]
    await records.merge(SYSTEM_ORIGIN, "c", "b")
    person = await records.merge(SYSTEM_ORIGIN, "b", "a")
    assert (person.name, person.identities) == ("A", ["a", "b", "c"])
    assert [await records.read(SYSTEM, each) for each in "abc"] == [person] * 3
    assert await find(records, q="C") == (["a"], False)
    for refused, code in (
        (records.merge(SYSTEM_ORIGIN, "c", "d"), "customer_not_found"),
        (records.change(SYSTEM_ORIGIN, "c", CustomerChange(name="X")), "customer_merged"),
        (records.merge(SYSTEM_ORIGIN, "b", "a", {before[1].version}), "customer_changed"),
    ):
        assert await code_of(refused) == code
    for one, other in (("a", "b"), ("b", "c")):
        await records.separate(SYSTEM_ORIGIN, one, other)
    found = [await records.read(SYSTEM, each) for each in "abc"]
    assert [(each.name, each.identities) for each in found] == [("A", ["a"]), ("B", ["b"]), ("C", ["c"])]


async def test_id_that_no_customer_can_have_is_unknown(records):
    """PostgreSQL refuses some texts."""
    await put(records, "c-1")
    for wrong in ("\0", "x" * 37, "\ud800"):
        assert await code_of(records.merge(SYSTEM_ORIGIN, wrong, "c-1")) == "customer_not_found"
        assert await code_of(records.separate(SYSTEM_ORIGIN, wrong, "c-1")) == "identity_not_found"

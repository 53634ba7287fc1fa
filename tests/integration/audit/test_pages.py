"""Pages of the audit log, of one case and across cases, on both databases."""

from datetime import UTC, datetime, timedelta

from support_service.platform.audit import entry_rows
from support_service.platform.audit.entry_rows import AuditFilters, find_entries
from tests.conftest import both_databases

pytestmark = both_databases
NOON = datetime(2026, 5, 12, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def add(database, *entries, changes="{}"):
    """Add entries; each is (minutes after noon, actor, action, case)."""
    names = ("actor", "action", "case_id")
    values = {"role": "agent", "request_id": None, "changes": changes}
    rows = [
        values | {"at": NOON + minutes * MINUTE} | dict(zip(names, rest, strict=True)) for minutes, *rest in entries
    ]
    async with database.transaction() as tx:
        await entry_rows.add_entries(tx, rows)


async def found(database, limit=50, **filters):
    sizes, actors, last, more = [], [], None, True
    while more:
        (page, more, _), _ = await find_entries(database, AuditFilters(**filters), last, limit)
        sizes.append(len(page))
        actors += [entry.actor for entry in page]
        last = (page[-1].at, page[-1].seq) if page else None
    return sizes, actors


async def of_case(database, limit):
    sizes, actors, before, more = [], [], None, True
    while more:
        page, more, _ = await entry_rows.read_case_entries(database, "case-1", before, limit)
        sizes.append(len(page))
        actors += [entry.actor for entry in page]
        before = page[-1].seq
    return sizes, actors


async def test_entries_are_found_by_each_filter(database):
    """Several filters must all match, and the end of the time is exclusive."""
    await add(
        database,
        (0, "0", "case.opened", "case-1"),
        (1, "1", "case.closed", "case-1"),
        (2, "2", "case.closed", "case-2"),
        (3, "3", "override.set", None),
        (4, "2", "case.opened", "case-2"),
    )
    for filters, expected in (
        ({}, "23210"),
        ({"actor": "2"}, "22"),
        ({"action": "case.closed"}, "21"),
        ({"actor": "2", "action": "case.closed"}, "2"),
        ({"case_id": "case-1"}, "10"),
        ({"case_id": "case-1", "action": "case.closed"}, "1"),
        ({"start": NOON + 3 * MINUTE}, "23"),
        ({"start": NOON + MINUTE, "end": NOON + 3 * MINUTE}, "21"),
        ({"actor": "nobody"}, ""),
    ):
        assert (await found(database, **filters))[1] == list(expected), filters


async def test_former_name_of_an_action_finds_its_entries(database):
    """In one order with the entries of its current name."""
    for minutes, action in enumerate(("lever.pulled", "override.set", "lever.released", "lever.pulled")):
        await add(database, (minutes, str(minutes), action, None))
    assert await found(database, 2, action="override.set") == ([2, 1], ["3", "1", "0"])


async def test_pages_have_each_entry_once(database):
    """Newest first. Of entries of the same time, the last added entry comes first."""
    await add(database, *((at, str(n), "case.opened", "case-1") for n, at in enumerate((0, 1, 1, 1, 5))))
    assert await found(database, 2) == ([2, 2, 1], ["4", "3", "2", "1", "0"])
    assert await found(database, 2, action="case.opened") == ([2, 2, 1], ["4", "3", "2", "1", "0"])
    assert await of_case(database, 2) == ([2, 2, 1], ["4", "3", "2", "1", "0"])


async def test_page_of_large_changes_ends_early(database):
    """It ends with the entry that reaches 4 MiB, as bytes and not as characters."""
    large = '{"description":["' + "\U00020000" * 131_072 + '",null]}'  # four bytes each
    await add(database, *((n, str(n), "case.changed", "case-1") for n in range(10)), changes=large)
    expected = ([8, 2], [str(n) for n in range(9, -1, -1)])
    assert await of_case(database, 50) == expected
    assert await found(database, 50) == expected

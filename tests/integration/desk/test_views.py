"""The service of saved views: limits that hold across replicas, counts, and what the audit log and the erasure see."""

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from support_service.api.views import with_case_counts
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, Forbidden, NotFound, Unavailable, VersionConflict
from support_service.core.search_words import SoughtTexts
from support_service.desk.view_models import SavedView
from support_service.desk.views import ViewService, erase_views, names_any_id
from support_service.platform.database.tables import audit_log, outbox, views
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.conftest import both_databases
from tests.support.cases import code_of

LAN = Principal("lan", "agent", "agent-1", frozenset({"returns"}))
ANN = Principal("ann", "agent", "agent-2", frozenset({"returns", "billing"}))
BOSS = Principal("boss", "supervisor")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def view(name="A view", **query):
    return SavedView.model_construct(
        id="view-1", owner="agent-1", team=None, name=name, query=query, version=1, created_at=AT, updated_at=AT
    )


@pytest.fixture
def service(two_databases, constants):
    """A service with low limits."""
    constants("desk.views", MAX_VIEWS=3)
    return ViewService(two_databases[0])


@pytest.fixture
def other_replica(two_databases):
    """The service of another replica."""
    return ViewService(two_databases[1])


def create(service, principal, name, team=None, **query):
    return service.create(WriteOrigin(principal), name, query, team)


async def names(service, principal, size=100):
    page, last = await service.list_views(principal, None, size)
    found = [*page]
    while last:
        page, last = await service.list_views(principal, last, size)
        found += page
    return [view.name for view in found]


@both_databases
async def test_pages_have_the_views_that_their_reader_may_see(service):
    """Newest first: views of the user and of the user's teams, for a supervisor of every team."""
    for principal, name, team in (
        (LAN, "of lan", None),
        (ANN, "of ann", None),
        (LAN, "of returns", "returns"),
        (BOSS, "of the boss", None),
        (BOSS, "of billing", "billing"),
        (ANN, "newest of returns", "returns"),
    ):
        await create(service, principal, name, team)
    assert await names(service, LAN) == ["newest of returns", "of returns", "of lan"]
    assert await names(service, ANN) == ["newest of returns", "of billing", "of returns", "of ann"]
    assert await names(service, BOSS) == ["newest of returns", "of billing", "of the boss", "of returns"]
    assert await names(service, Principal("ann", "analyst")) == []
    pages = [await names(service, ANN, size=size) for size in (1, 2, 3, 4)]
    assert pages == [await names(service, ANN)] * 4


@both_databases
async def test_limit_holds_when_replicas_create_views_at_once(service, other_replica):
    """It is the number of views of a user, and of a team."""
    for principal, team in ((LAN, None), (BOSS, "returns")):
        await create(service, principal, "first", team)
        at_once = (create(each, principal, f"{n}", team) for n in range(4) for each in (service, other_replica))
        results = await asyncio.gather(*at_once, return_exceptions=True)
        refused = [each.code for each in results if isinstance(each, Conflict)]
        assert len([each for each in results if isinstance(each, SavedView)]) == 2
        assert len(refused) == 6
        assert "too_many_views" in refused
    await create(service, ANN, "her own")
    assert len(await names(service, LAN)) == 6
    with pytest.raises(Conflict, match="delete one"):
        await create(service, LAN, "shared", "returns")


@both_databases
async def test_a_name_is_unique_among_the_views_of_a_user_and_of_a_team(service, other_replica):
    """Of two at once one is created; another user and a team may have a view of the same name."""
    at_once = (create(each, LAN, "Mine") for each in (service, other_replica))
    results = await asyncio.gather(*at_once, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Conflict", "SavedView"]
    shared = await create(service, LAN, "Mine", "returns")
    await create(service, ANN, "Mine")
    another = await create(service, LAN, "Another")
    assert await code_of(service.change(WriteOrigin(LAN), another.id, {"name": "Mine"}, None)) == "view_name_taken"
    with pytest.raises(Conflict, match="Mine"):
        await service.change(WriteOrigin(LAN), shared.id, {"team": None}, None)
    renamed = await service.change(WriteOrigin(LAN), shared.id, {"team": None, "name": "Was shared"}, None)
    assert (renamed.owner, renamed.team, renamed.version) == ("agent-1", None, 2)


@both_databases
async def test_of_two_changes_of_a_version_one_is_made(service, other_replica):
    """A change without a difference keeps the version; a deleted view is not found."""
    stored = await create(service, LAN, "Mine", status="open")
    at_once = (
        each.change(WriteOrigin(LAN), stored.id, {"query": {"status": status}}, {1})
        for each, status in ((service, "closed"), (other_replica, "pending"))
    )
    results = await asyncio.gather(*at_once, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["SavedView", "VersionConflict"]
    (changed,) = (each for each in results if isinstance(each, SavedView))
    assert await service.change(WriteOrigin(LAN), stored.id, {"query": dict(changed.query)}, {2}) == changed
    with pytest.raises(VersionConflict):
        await service.delete(WriteOrigin(LAN), stored.id, {1})
    await service.delete(WriteOrigin(LAN), stored.id, {2})
    with pytest.raises(NotFound):
        await service.delete(WriteOrigin(LAN), stored.id, None)


async def test_a_moved_view_needs_room_where_it_goes(service):
    """A view that moves to a team counts there, and not with its user any more."""
    stored = [await create(service, LAN, f"{number}") for number in range(3)]
    for number in range(3):
        await create(service, BOSS, f"{number}", "billing")
    with pytest.raises(Forbidden, match="views:share"):
        await service.change(WriteOrigin(LAN), stored[0].id, {"team": "billing"}, None)
    await service.change(WriteOrigin(LAN), stored[0].id, {"team": "returns"}, None)
    await create(service, LAN, "one more")
    with pytest.raises(Conflict, match="delete one"):
        await service.change(WriteOrigin(BOSS), stored[0].id, {"team": "billing", "name": "moved"}, None)
    assert await names(service, ANN) == ["2", "1", "0", "0"]


async def test_views_are_counted_a_few_at_a_time(service, constants):
    """A number above the limit is the limit and `more`; a query that can't be counted has no number."""
    numbers, running, most_running = {"a": 10, "b": 11, "c": None}, 0, 0
    for name in numbers:
        await create(service, LAN, name, q=name)

    async def count(query, most):
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        assert most == 11
        return numbers[query["q"]], numbers[query["q"]]

    views, last = await service.list_views(LAN, None, 10)
    constants("api.views", MAX_COUNT=10)
    page = await with_case_counts(views, count)
    found = {counted.name: (counted.count, counted.more) for counted in page}
    assert found == {counted.name: (counted.late, counted.more_late) for counted in page}
    assert found == {"a": (10, False), "b": (10, True), "c": (None, False)}
    assert (most_running, last) == (2, None)


async def test_a_view_that_is_not_counted_by_the_deadline_has_no_number(database, constants):
    """The others have theirs."""
    service = ViewService(database)
    for name in ("hangs", "waits", "counted"):  # the newest is counted first
        await create(service, LAN, name, q=name)

    async def count(query, _most):
        if query["q"] != "counted":
            await asyncio.Event().wait()
        return 7, 0

    views, _ = await service.list_views(LAN, None, 10)
    constants("api.views", COUNT_TIMEOUT=0.0)
    page = await with_case_counts(views, count)
    assert {counted.name: counted.count for counted in page} == {"counted": 7, "hangs": None, "waits": None}


async def test_the_first_error_of_a_count_is_raised(service):
    """It ends the other counts."""
    for name, query in {"hangs too": {"q": "x"}, "hangs": {"q": "x"}, "fails": {}}.items():
        await create(service, LAN, name, **query)

    async def count(query, _most):
        if query:
            await asyncio.Event().wait()
        raise Unavailable("database_busy", "busy")

    views, _ = await service.list_views(LAN, None, 10)
    with pytest.raises(Unavailable, match="busy"):
        await with_case_counts(views, count)


@both_databases
async def test_audit_log_has_each_change_without_names_and_values(service, database):
    """Entries without a case can't be erased, so nothing in them names a customer. There are no events."""
    stored = await create(service, LAN, "Zaphod's cases", customerId="zaphod")
    changed = {"name": "Zaphod", "query": {"q": "zaphod"}, "team": "returns"}
    await service.change(WriteOrigin(LAN, "request-1"), stored.id, changed, None)
    await service.delete(WriteOrigin(BOSS), stored.id, None)
    rows = await database.fetch_all(sa.select(audit_log).order_by(audit_log.c.seq))
    assert [(row.action, row.actor, row.case_id) for row in rows] == [
        ("view.created", "lan", None),
        ("view.changed", "lan", None),
        ("view.deleted", "boss", None),
    ]
    assert rows[1].request_id == "request-1"
    assert "zaphod" not in str([tuple(row) for row in rows]).lower()
    assert '"filters":[["customerId"],["q"]]' in rows[1].changes
    assert '"changedFields":[null,["name","query","team"]]' in rows[1].changes
    assert '"owner":["agent-1",null],"team":[null,"returns"]' in rows[1].changes
    assert await database.fetch_all(sa.select(outbox)) == []


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        (view(q="late cus-42"), True),
        (view("Cases of CUS-42"), True),
        (view(tag=["vip", "CUS-42"]), True),
        (view(tag=["CUS", "42x"]), False),
        (view(q="CUS 4"), False),
        (view("7 days"), False),
        (view(q="waiting 7 days"), False),
        (view(tag=["7-days"]), False),
        (view("7"), True),
        (view(q='"7"'), True),
        (view(tag=["vip", "7"]), True),
        (view("%"), True),
        (view("100 %"), False),
        (view(team="CUS-42", status="open"), False),
        (view(), False),
    ],
)
def test_view_names_an_id(stored, named):
    """Among the words of the search, of a tag and of the name; a short id must be all of it."""
    assert names_any_id(stored, SoughtTexts({"CUS-42", "7", "%"})) is named
    assert not names_any_id(stored, SoughtTexts({"--"}))


@both_databases
async def test_erasure_deletes_the_views_that_name_the_customer(service, database):
    """Others stay, and an id without letters and digits is found too."""
    await create(service, LAN, "A", q="zaphod")
    await create(service, LAN, "B", q="--")
    await create(service, LAN, "C", q="trillian")
    assert len(await erase_views(database, SYSTEM_ORIGIN, SoughtTexts({"zaphod"}))) == 1
    assert len(await erase_views(database, SYSTEM_ORIGIN, SoughtTexts({"--"}))) == 1
    assert [row.name for row in await database.fetch_all(sa.select(views))] == ["C"]
    assert await erase_views(database, SYSTEM_ORIGIN, SoughtTexts({"zaphod"})) == []

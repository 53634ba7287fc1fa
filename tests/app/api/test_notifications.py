"""Notifications and followers over HTTP: who is told of what, and who sees it."""

import asyncio
from datetime import timedelta

import pytest_asyncio
import sqlalchemy as sa

from support_service.cases.notifier import MAX_FOLLOWERS
from support_service.platform.database.tables import notifications, tickets
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.each import each_row
from tests.support.service import service_of
from tests.support.stream_desk import open_desk, quick

NOTIFICATIONS = "/support/notifications"
NOTE = {"authorType": "agent", "visibility": "internal"}
LAN, MINH = "agent-1", "agent-2"


@pytest_asyncio.fixture(loop_scope="module")
async def desk(desk):
    """A service with a caller of each kind, and a directory of two agents."""
    await desk.send("PUT", f"/support/agents/{LAN}", json={"displayName": "Lan", "teams": ["returns"]})
    await desk.send("PUT", f"/support/agents/{MINH}", json={"teams": ["billing"]})
    return desk


async def read(desk, name="lan", **query):
    """Return a page of the notifications of a caller."""
    return await desk.send("GET", NOTIFICATIONS, name, params=query)


async def told(desk, name="lan"):
    """Return what a caller is told, oldest first."""
    return [each["kind"] for each in reversed((await read(desk, name))["items"])]


async def follow_case(desk, case, name="lan", agent_id=LAN, method="PUT", **options):
    return await desk.send(method, f"/support/cases/{case['id']}/followers/{agent_id}", name, **options)


async def followers(desk, case, name="supervisor"):
    return (await desk.send("GET", f"/support/cases/{case['id']}/followers", name))["items"]


async def set_status(desk, case, status, name="supervisor"):
    await desk.send("POST", f"/support/cases/{case['id']}/status", name, json={"status": status})


async def test_mentioned_person_is_told_and_follows_the_case(desk):
    """A public message mentions nobody: customers read it."""
    case = await desk.open_case()
    await desk.add(case, authorType="agent", message="@agent-1 writes to you")
    note = await desk.add(case, message="What do you think, @agent-1?", **NOTE)
    page = await read(desk)
    ids = {"caseId": case["id"], "messageId": note["id"], "actorId": "supervisor"}
    told = {"kind": "mention", "subject": "A parcel", "at": note["createdAt"], "read": False} | ids
    assert page == {
        "items": [told | {"id": page["items"][0]["id"]}],
        "unread": 1,
        "moreUnread": False,
        "nextCursor": None,
    }
    assert await followers(desk, case) == [{"id": LAN, "displayName": "Lan"}]


async def test_mentioned_team_is_told_and_does_not_follow(desk):
    """Who writes the note is told nothing. A person whom the last note mentions follows when the case is closed."""
    case = await desk.open_case()
    await desk.add(case, "lan", message="@returns @billing", **NOTE)
    assert (await told(desk), await told(desk, "minh")) == ([], ["mention"])
    assert await followers(desk, case) == []
    await desk.send("POST", f"/support/cases/{case['id']}/close", json={"message": "@agent-1 has solved it", **NOTE})
    assert await told(desk) == ["mention", "status"]


async def test_follower_is_told_of_what_others_do(desk):
    """Answers of agents are none of it, nor is what the follower does."""
    case = await desk.open_case(customerId="customer-1")
    await follow_case(desk, case)
    await desk.add(case, "ann")
    await desk.add(case, "minh", message="a note", **NOTE)
    await desk.add(case, "minh", authorType="agent", message="an answer")
    await set_status(desk, case, "resolved", "minh")
    await desk.add(case, "ann", message="Still not here")  # reopens it
    await desk.change(case, priority="high", tags=["late"])
    await desk.change(case, team="returns")
    await desk.send("PATCH", f"/support/cases/{case['id']}", "lan", json={"assignedAgentId": LAN})
    await desk.add(case, "lan", message="my own note, @agent-1", **NOTE)
    assert await told(desk) == ["message", "note", "status", "message", "status", "assignment"]
    assert [each["kind"] for each in (await read(desk, kind="status"))["items"]] == ["status"] * 2
    actors = [each["actorId"] for each in reversed((await read(desk))["items"])]
    assert actors == ["customer", "agent-2", "agent-2", "customer", "customer", "supervisor"]
    await follow_case(desk, case, method="DELETE")
    await desk.add(case, "ann")
    assert len(await told(desk)) == 6


async def test_new_agent_of_a_case_is_told(desk):
    """At the opening, too. Who takes a case is told nothing, and the former agent nothing either."""
    case = await desk.open_case(assignedAgentId=LAN, initialMessage={"message": "For @agent-1, @billing", **NOTE})
    assert (await told(desk), await told(desk, "minh")) == (["mention"], [])  # the case is not for the team of Minh
    await desk.change(case, assignedAgentId=MINH)
    assert (await told(desk), await told(desk, "minh")) == ([], ["mention", "assigned"])
    other = await desk.open_case(assignedAgentId=MINH)
    await desk.change(other, assignedAgentId=None)
    await desk.send("PATCH", f"/support/cases/{other['id']}", "minh", json={"assignedAgentId": MINH})
    assert await told(desk, "minh") == ["mention", "assigned", "assigned"]


async def test_notification_of_a_case_that_has_moved_is_not_shown(desk):
    """It counts as unread no longer, and comes back with the case."""
    case = await desk.open_case()
    await desk.add(case, message="@agent-1", **NOTE)
    await desk.change(case, team="billing")
    assert (await read(desk), (await read(desk, unread="true"))["items"]) == (
        {"items": [], "unread": 0, "moreUnread": False, "nextCursor": None},
        [],
    )
    await desk.change(case, team="returns")
    assert await told(desk) == ["mention", "assignment", "assignment"]


async def test_notification_moves_with_its_message(desk):
    """A person who may not see the case that a note was split into is not shown the notification any more."""
    case = await desk.open_case(description="Late", assignedAgentId=MINH, team="returns")
    note = await desk.add(case, message="@agent-1", **NOTE)
    body = {"messageIds": [note["id"]], "subject": "Another matter"}
    split = await desk.send("POST", f"/support/cases/{case['id']}/split", json=body)
    (shown,) = (await read(desk))["items"]
    assert (shown["caseId"], shown["messageId"], shown["subject"]) == (split["id"], note["id"], "Another matter")
    await desk.change(split, team="billing")
    assert await told(desk) == []


async def test_notifications_are_marked_as_read(desk):
    """By ids, or from one downwards; notifications of others stay unread. The list has pages."""
    case = await desk.open_case()
    await follow_case(desk, case, "supervisor", MINH)
    for number in range(5):
        await desk.add(case, message=f"{number} @agent-1", **NOTE)
    ids = [each["id"] for each in (await read(desk))["items"]]
    first = await read(desk, limit=2)
    rest = await read(desk, limit=3, cursor=first["nextCursor"])
    assert ([each["id"] for each in first["items"] + rest["items"]], rest["nextCursor"]) == (ids, None)
    assert first["unread"] == rest["unread"] == 5
    foreign = (await read(desk, "minh"))["items"][0]["id"]
    marked = await desk.send("POST", f"{NOTIFICATIONS}/read", "lan", json={"ids": [ids[1], foreign, "no-such-id"]})
    assert marked == {"unread": 4, "moreUnread": False}
    assert await desk.send("POST", f"{NOTIFICATIONS}/read", "lan", json={"until": foreign}) == marked
    assert (await desk.send("POST", f"{NOTIFICATIONS}/read", "lan", json={"until": ids[2]}))["unread"] == 1
    assert [each["read"] for each in (await read(desk))["items"]] == [False, True, True, True, True]
    assert [each["id"] for each in (await read(desk, unread="true"))["items"]] == [ids[0]]
    assert (await read(desk, "minh"))["unread"] == 5


async def test_hidden_notifications_stay_unread(desk):
    """`until` marks what the list shows; that of a case that comes back later is still to be read."""
    hidden, case = await desk.open_case(), await desk.open_case()
    for each in (hidden, case):
        await desk.add(each, message="@agent-1", **NOTE)
    await desk.change(hidden, team="billing")
    (shown,) = (await read(desk))["items"]
    marked = await desk.send("POST", f"{NOTIFICATIONS}/read", "lan", json={"until": shown["id"]})
    assert marked == {"unread": 0, "moreUnread": False}
    await desk.change(hidden, team="returns")
    found = [(each["kind"], each["read"]) for each in (await read(desk))["items"]]
    assert found == [("assignment", False), ("assignment", False), ("mention", True), ("mention", False)]


async def test_many_unread_notifications_are_counted_up_to_a_hundred(desk):
    case = await desk.open_case()
    for number in range(101):
        await desk.add(case, message=f"{number} @agent-1", **NOTE)
    assert {"unread": 100, "moreUnread": True}.items() <= (await read(desk, limit=1)).items()


@each_row("body", [{}, {"ids": []}, {"ids": ["x"] * 201}, {"ids": ["x"], "until": "x"}, {"until": ""}])
async def test_request_says_exactly_what_is_read(desk, body):
    await desk.send("POST", f"{NOTIFICATIONS}/read", "lan", status=[422], json=body)


async def test_agents_follow_for_themselves_and_supervisors_add_others(desk):
    """Following changes neither the version nor the time of the case."""
    case = await desk.open_case()
    await follow_case(desk, case, "lan", MINH, status=[403])
    await follow_case(desk, case, "supervisor", "x" * 129, status=[422])
    for _ in range(2):
        await follow_case(desk, case, "supervisor", MINH)
        await follow_case(desk, case)
    assert [each["id"] for each in await followers(desk, case, "lan")] == [MINH, LAN]
    shown = await desk.send("GET", f"/support/cases/{case['id']}")
    assert (shown["updatedAt"], "followers" in shown) == (case["updatedAt"], False)
    for _ in range(2):
        await follow_case(desk, case, "supervisor", MINH, "DELETE")
    await follow_case(desk, case, method="DELETE")
    assert await followers(desk, case) == []
    entries = (await desk.send("GET", f"/support/cases/{case['id']}/audit"))["items"]
    own = [(each["action"], each["changes"]) for each in entries if each["action"].startswith("follower")]
    assert own == [("follower.removed", {"follower": [MINH, None]}), ("follower.added", {"follower": [None, MINH]})]


async def test_followers_of_a_case_are_bounded(desk):
    """A mention still tells a person for whom there is no room."""
    case = await desk.open_case()
    database = service_of(desk.client).database
    full = [f"person-{number}" for number in range(MAX_FOLLOWERS)]
    async with database.transaction() as tx:
        await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(followers=full))
    await follow_case(desk, case, status=[409])
    await desk.add(case, message="@agent-1", **NOTE)
    assert await told(desk) == ["mention"]
    assert len(await followers(desk, case)) == MAX_FOLLOWERS


async def test_followers_of_a_duplicate_are_told_of_its_original_while_it_is_merged(desk):
    """Also of a duplicate's duplicate, and once if they follow both. The lists of followers stay the same."""
    original, between, duplicate = [await desk.open_case() for _ in range(3)]
    await follow_case(desk, duplicate)
    for case, into in ((duplicate, between), (between, original)):
        await desk.send("POST", f"/support/cases/{case['id']}/merge", json={"into": into["id"]})
    message = await desk.add(duplicate)
    assert message["ticketId"] == original["id"]
    await follow_case(desk, original)
    await desk.add(original, **NOTE)
    await follow_case(desk, original, method="DELETE")
    await set_status(desk, original, "pending")
    await desk.change(original, team="returns")
    assert [await followers(desk, case) for case in (original, between)] == [[], []]
    links = (await desk.send("GET", f"/support/cases/{between['id']}"))["links"]
    (link,) = [each["id"] for each in links if each["kind"] == "duplicate-of"]
    await desk.send("DELETE", f"/support/cases/{between['id']}/links/{link}")
    await desk.add(original, **NOTE)
    await desk.add(between, **NOTE)
    items = (await read(desk))["items"]
    assert [(each["kind"], each["caseId"]) for each in reversed(items)] == [
        *(("status", duplicate["id"]), ("status", between["id"]), ("message", original["id"])),
        *(("note", original["id"]), ("status", original["id"]), ("assignment", original["id"])),
        *(("status", between["id"]), ("note", between["id"])),
    ]


async def test_notes_of_bots_and_synthetic_cases_tell_nobody(desk):
    """A gateway writes what strangers send into its notes. No follower is told of them, and nobody becomes one."""
    case = await desk.open_case(channel="synthetic", assignedAgentId=LAN)
    await desk.add(case, message="@agent-1", **NOTE)
    await follow_case(desk, case, "supervisor", MINH)
    await desk.change(case, assignedAgentId=None)
    await desk.change(case, assignedAgentId=LAN)
    await set_status(desk, case, "resolved")
    note = NOTE | {"authorType": "bot", "message": "Automatic mail from eve@example.org: @agent-1 @billing"}
    case = await desk.open_case(initialMessage=note)
    await follow_case(desk, case, "supervisor", MINH)
    await desk.add(case, **note)
    assert [each["id"] for each in await followers(desk, case)] == [MINH]
    assert (await told(desk), await told(desk, "minh")) == ([], [])


async def test_old_notifications_are_deleted(make_client, tmp_path, constants):
    """Also unread ones, and the oldest ones of a person who has too many."""
    few = {"KEEP": timedelta(hours=1), "MAX_KEPT": 3, "PEOPLE_PER_RUN": 2, "BATCH_SIZE": 2}
    constants("desk.notifications", CLEANUP_INTERVAL=0.01, **few)
    desk = await open_desk(make_client, tmp_path / "tokens.json", quick())
    await desk.send("PUT", f"/support/agents/{LAN}", json={})
    await desk.send("PUT", f"/support/agents/{MINH}", json={})
    case = await desk.open_case()
    for number in range(8):
        await desk.add(case, message=f"{number} @agent-1", **NOTE)
    await desk.add(case, message="@agent-2", **NOTE)
    newest = [each["id"] for each in (await read(desk))["items"][:3]]

    async def left():
        found = (await read(desk))["items"]
        return [each["id"] for each in found] == newest and len((await read(desk, "minh"))["items"]) == 1

    await eventually(left)
    database = service_of(desk.client).database
    async with database.transaction() as tx:
        of_lan = notifications.c.recipient == LAN
        at = (await tx.fetch_now(sa.select(notifications.c.at).where(of_lan))).at - timedelta(hours=2)
        await tx.execute(notifications.update().where(of_lan).values(at=at))

    async def is_empty():
        return not (await read(desk))["items"]

    await eventually(is_empty)
    assert len((await read(desk, "minh"))["items"]) == 1


def shown(stream):
    """Return the events of a stream: the change type of a change, or the kind of a notification."""
    return [(each.name, each.data.get("changeType") or each.data.get("kind")) for each in stream.events]


NOTIFIED, CHANGED = "notification", "support.case.updated.v1"


async def test_stream_tells_the_receiver_only(desk):
    """The notification comes just before its change. Others get the change alone, those without the case nothing."""
    case = await desk.open_case()
    await desk.publish_all()
    async with desk.follow("lan") as lan, desk.follow("minh") as minh, desk.follow("supervisor") as supervisor:
        note = await desk.add(case, message="@agent-1", **NOTE)
        await eventually(lambda: len(lan.events) == 2)
        notified, change = lan.events
        assert (notified.name, notified.data) == ("notification", (await read(desk))["items"][0])
        assert (change.name, change.data["message"]["id"], change.id > notified.id) == (CHANGED, note["id"], True)
        await desk.change(case, team="billing")
        await desk.add(case, message="@agent-1 again", **NOTE)
        await desk.change(case, team="returns")
        await eventually(lambda: len(lan.events) == 5)
        assert shown(lan)[2:] == [(CHANGED, "case.left"), (NOTIFIED, "assignment"), (CHANGED, "case.changed")]
        await eventually(lambda: len(supervisor.events) == 4 and len(minh.events) == 4)
        assert {each.name for each in (*supervisor.events, *minh.events)} == {CHANGED}


async def test_stream_tells_callers_without_a_subject_apart(desk, token_file):
    """They have the same rights, and different names."""
    desk.tokens["second"] = write_token(token_file, "second", role="supervisor")
    case = await desk.open_case()

    async def accepted():
        headers = {"Authorization": f"Bearer {desk.tokens['second']}"}
        async with desk.client.get(NOTIFICATIONS, headers=headers) as response:
            return response.status == 200

    await eventually(accepted)
    await follow_case(desk, case, "second", "second")
    await desk.publish_all()
    async with desk.follow("supervisor") as first, desk.follow("second") as other:
        await desk.add(case, "lan", message="a note", **NOTE)
        await eventually(lambda: len(first.events) == 1 and len(other.events) == 2)
        assert [each.name for each in (*other.events, *first.events)] == [NOTIFIED, CHANGED, CHANGED]


async def test_missed_notifications_are_replayed(desk):
    """What the caller may not see any more is left out."""
    case, other = await desk.open_case(), await desk.open_case()
    await desk.publish_all()
    async with desk.follow("lan") as lan:
        await desk.change(case, priority="high")
        await eventually(lambda: lan.events)
        position = lan.last_id
    await desk.add(case, message="@agent-1", **NOTE)
    await desk.add(other, message="@agent-1", **NOTE)
    await desk.change(other, team="billing")
    await desk.publish_all()
    async with desk.follow("lan", after=position) as lan:
        await eventually(lambda: len(lan.events) == 3)
        assert shown(lan) == [(NOTIFIED, "mention"), (CHANGED, "conversation.added"), (CHANGED, "case.left")]
        assert [each.data["caseId"] for each in lan.events] == [case["id"], case["id"], other["id"]]


async def test_repeat_of_a_note_tells_once(desk):
    """The notifications are a part of the write that the key belongs to."""
    case = await desk.open_case()
    sent = {"headers": {"Idempotency-Key": "one"}, "json": {"message": "@agent-1", **NOTE}}
    path = f"/support/cases/{case['id']}/messages"
    await asyncio.gather(*(desk.send("POST", path, status=(200, 409), **sent) for _ in range(5)))
    assert await told(desk) == ["mention"]

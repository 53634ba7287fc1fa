"""Split: messages of a case, with the files that they name, become a case of their own."""

import pytest
import sqlalchemy as sa

from support_service.attachments.service import AttachmentService
from support_service.platform.database.tables import messages, tickets
from tests.support.calls import expect_json, expect_problem, form
from tests.support.links import OWN
from tests.support.service import service_of


class Desk:
    """What principals do with a case."""

    def __init__(self, principals):
        self.principals = principals

    async def open(self, *texts, description=None, **fields):
        """Open a case with messages; return it. A text names its author: `a: …` an agent, `n: …` a note."""
        new = {"subject": "Two parcels", "channel": "email", "tags": ["vip"], "description": description} | OWN | fields
        case = await self.principals.read_json("supervisor", "POST", "/support/cases", json=new)
        for text in texts:
            await self.write(case, text)
        return await self.read(case)

    async def write(self, case, text, name=None, **fields):
        """Add a message; return it."""
        author = "agent" if text[:3] in ("a: ", "n: ") else "customer"
        visibility = "internal" if text.startswith("n: ") else "public"
        body = {"authorType": author, "message": text, "visibility": visibility} | fields
        path = f"/support/cases/{case['id']}/messages"
        return await self.principals.read_json(name or "supervisor", "POST", path, json=body)

    def request(self, case, messages, name="agent", subject="The other parcel", **sent):
        body = {"messageIds": [each["id"] for each in messages], "subject": subject}
        return self.principals.request(name, "POST", f"/support/cases/{case['id']}/split", json=body, **sent)

    async def split(self, case, messages, name="agent", **sent):
        """Split messages; return the new case."""
        async with self.request(case, messages, name, **sent) as response:
            assert response.status == 201, await response.text()
            new = await response.json()
            assert response.headers["Location"] == f"/support/cases/{new['id']}"
            return new

    async def read(self, case, name="supervisor", query=""):
        return await self.principals.read_json(name, "GET", f"/support/cases/{case['id']}{query}")

    async def find(self, word, name="supervisor"):
        """Return the ids of the cases that a search finds."""
        page = await self.principals.read_json(name, "GET", f"/support/cases?q={word}")
        return [each["id"] for each in page["items"]]

    async def stage(self, case, data=b"hello"):
        path = f"/support/cases/{case['id']}/attachments?staged=true"
        return await self.principals.read_json("supervisor", "POST", path, data=form(data))


@pytest.fixture
def desk(principals):
    """What principals do with cases."""
    return Desk(principals)


def texts(case):
    return [each["message"] for each in case["messages"]]


async def test_split_moves_messages_into_a_new_case(desk):
    """With ids, authors and times. Both cases say so, and each view reads what it read before."""
    case = await desk.open("one", "two", "n: three", "a: four", "five", description="Zero")
    moved = [case["messages"][number] for number in (3, 1, 2)]
    new = await desk.split(case, moved)
    assert new == await desk.read(new, "agent") | {"timeline": new["timeline"]}
    expected = [each | {"ticketId": new["id"]} for each in case["messages"][1:4]]
    assert new["messages"] == expected
    kept = ("customerId", "channel", "priority", "tags", "assignedAgentId")
    assert {name: new[name] for name in kept} == {name: case[name] for name in kept}
    assert (new["subject"], new["status"], new["description"]) == ("The other parcel", "open", None)
    (link,) = new["links"]
    assert (link["kind"], link["caseId"]) == ("split-from", case["id"])
    original = await desk.read(case)
    assert texts(original) == ["one", "five"]
    assert original["links"] == [link | {"kind": "split-into", "caseId": new["id"]}]
    for name, left, taken in (("customer", ["one", "five"], ["two", "a: four"]), ("analyst", 2, 3)):
        found = [texts(await desk.read(each, name)) for each in (case, new)]
        assert found == ([left, taken] if name == "customer" else [["[masked]"] * left, ["[masked]"] * taken])
    ids = [each["id"] for each in expected]
    for name, changes in (
        ("agent", {"splitInto": [None, new["id"]], "messageIds": [None, ids]}),
        ("customer", {"splitInto": [None, new["id"]]}),
    ):
        timeline = (await desk.read(case, name, "?includeTimeline=true"))["timeline"]
        assert [each["changes"] for each in timeline if each.get("action") == "case.split"] == [changes]
        (opened,) = [
            each for each in (await desk.read(new, name, "?includeTimeline=true"))["timeline"] if "action" in each
        ]
        assert opened["changes"]["splitFrom"] == [None, case["id"]]


async def test_search_finds_moved_messages_in_the_new_case(desk):
    """And the others where they were, for each caller; messages that follow are found, too."""
    case = await desk.open("quince", "damson", "n: medlar", "sorb")
    new = await desk.split(case, case["messages"][1:3])
    await desk.write(case, "loquat")
    await desk.write(new, "persimmon")
    for word, found in (("quince", case), ("sorb", case), ("loquat", case), ("damson", new), ("persimmon", new)):
        assert await desk.find(word) == await desk.find(word, "customer") == [found["id"]]
    assert (await desk.find("medlar"), await desk.find("medlar", "customer")) == ([new["id"]], [])
    page = await desk.principals.read_json("supervisor", "GET", "/support/cases?q=damson")
    assert page["items"][0]["match"]["snippet"] == "damson"


async def test_file_that_moves_before_it_is_deleted_stays(desk, monkeypatch):
    """The request names the case that the file was in, and its version."""
    case = await desk.open("one")
    file = await desk.stage(case)
    named, new = await desk.write(case, "two", attachmentIds=[file["id"]]), []
    get = AttachmentService.get

    async def get_and_split(*arguments):
        found = await get(*arguments)
        monkeypatch.setattr(AttachmentService, "get", get)
        new.append(await desk.split(case, [named]))
        return found

    monkeypatch.setattr(AttachmentService, "get", get_and_split)
    path = f"/support/cases/{case['id']}/attachments/{file['id']}"
    await expect_problem(desk.principals.request("agent", "DELETE", path), 404, "attachment_not_found")
    assert [each["id"] for each in (await desk.read(new[0]))["attachments"]] == [file["id"]]


async def test_files_move_with_the_messages_that_name_them(desk):
    """A file that another message names stays. The former address of a moved file still leads to it."""
    case = await desk.open("one")
    first, second, shared = [await desk.stage(case, data) for data in (b"first", b"second", b"shared")]
    both = await desk.write(case, "two", attachmentIds=[first["id"], second["id"]])
    kept = await desk.write(case, "three", attachmentIds=[shared["id"]])
    by_uri = await desk.write(case, "four", attachmentUri=shared["uri"])
    new = await desk.split(case, [both, by_uri])
    assert [each["id"] for each in new["attachments"]] == [first["id"], second["id"]]
    assert new["messages"][0]["attachmentUri"] == new["attachments"][0]["uri"]
    assert new["messages"][1]["attachmentUri"] == kept["attachmentUri"]
    assert [each["id"] for each in (await desk.read(case))["attachments"]] == [shared["id"]]
    for address in (first["uri"], new["attachments"][0]["uri"]):
        for name in ("agent", "customer"):
            async with desk.principals.request(name, "GET", address) as response:
                assert await response.read() == b"first"
        problem = await desk.principals.request("other-customer", "GET", address)
        await expect_problem(problem, 404, "attachment_not_found")
    path = f"/support/cases/{case['id']}/attachments/{first['id']}"
    await expect_problem(desk.principals.request("agent", "DELETE", path), 404, "attachment_not_found")
    await expect_json(desk.principals.request("agent", "DELETE", path.replace(case["id"], new["id"])), 204)


async def test_timeline_does_not_name_a_file_that_moved(desk):
    """The new case may get another team. A file that stays, and a file that was deleted, keep their names."""
    case = await desk.open("one")
    moved, kept, deleted = [await desk.stage(case, data) for data in (b"1", b"2", b"3")]
    message = await desk.write(case, "two", attachmentIds=[moved["id"]])
    await desk.write(case, "three", attachmentIds=[kept["id"], deleted["id"]])
    path = f"/support/cases/{case['id']}"
    await expect_json(desk.principals.request("agent", "DELETE", f"{path}/attachments/{deleted['id']}"), 204)

    async def named():
        entries = (await desk.read(case, "agent", "?includeTimeline=true"))["timeline"]
        changes = [each["changes"] for each in entries if each.get("action", "").startswith("attachment.")]
        return {each for values in changes if "filename" in values for each in values["attachmentId"] if each}

    assert await named() == {each["id"] for each in (moved, kept, deleted)}
    new = await desk.split(case, [message])
    given = {"assignedAgentId": "agent-2", "team": "billing"}
    await desk.principals.read_json("supervisor", "PATCH", f"/support/cases/{new['id']}", json=given)
    assert await named() == {kept["id"], deleted["id"]}


async def test_note_does_not_hide_a_file_that_a_moved_message_shows(desk):
    """A file that messages of both cases name stays in the original."""
    case = await desk.open("one")
    shared = await desk.stage(case)
    message = await desk.write(case, "a: two", attachmentIds=[shared["id"]])
    await desk.write(case, "n: three", attachmentIds=[shared["id"]])
    await desk.split(case, [message])
    await desk.write(case, "n: five", attachmentIds=[shared["id"]])
    (file,) = (await desk.read(case))["attachments"]
    assert file["visibility"] == "public"


async def test_both_cases_know_since_when_their_customer_waits(desk):
    """And who has answered: each by its own messages."""

    async def waits(case):
        return (await desk.read(case))["waitingSince"]

    case = await desk.open("one", "a: two", "three", "n: four")
    one, two, three, four = case["messages"]
    new = await desk.split(case, [three, four])
    assert (await waits(case), await waits(new)) == (None, three["createdAt"])
    answer = await desk.split(case, [two])
    assert (await waits(case), await waits(answer)) == (one["createdAt"], None)
    # The customer does not wait for an answer to what an agent has written into the case later.
    for given, change in ((None, "Zero"), ("Zero", "Other")):
        described = await desk.open("a: one", description=given)
        assert await waits(described) is None
        path = f"/support/cases/{described['id']}"
        await desk.principals.read_json("agent", "PATCH", path, json={"description": change})
        await desk.split(described, described["messages"])
        assert await waits(described) == (described["createdAt"] if given else None)


async def test_rows_of_both_cases_stay_in_step(desk):
    """Sizes, versions that customers see, and the versions of messages."""
    case = await desk.open("one", "n: two", "three " * 900, "four")
    database = service_of(desk.principals.client).database
    statement = sa.select(tickets.c.conversation_bytes, tickets.c.version, tickets.c.internal_changes)

    async def row(case):
        return tuple(await database.fetch_now(statement.where(tickets.c.id == case["id"])))

    before = await row(case)
    new = await desk.split(case, case["messages"][1:3])
    after, taken = await row(case), await row(new)
    assert after[0] + taken[0] == before[0]
    assert taken[0] > 5400 + 1024
    assert (after[1:], taken[1:]) == ((before[1] + 1, before[2]), (3, 1))
    rows = await database.fetch_all(
        sa.select(messages.c.version, messages.c.public_version)
        .where(messages.c.ticket_id == new["id"])
        .order_by(messages.c.seq)
    )
    assert [tuple(each) for each in rows] == [(2, None), (3, 2)]
    # A conflict returns the messages that the sender does not know, of its own case.
    body, headers = {"authorType": "agent", "message": "five"}, {"If-Match": '"2"'}
    path = f"/support/cases/{new['id']}/messages"
    async with desk.principals.request("agent", "POST", path, json=body, headers=headers) as response:
        problem = await response.json(content_type=None)
    assert (response.status, [each["message"] for each in problem["messages"]]) == (412, ["three " * 900])


async def test_repeat_of_a_moved_message_is_recognized(desk):
    """A channel that sends it to the original again gets the message that exists, also after a second split."""
    case = await desk.open("one")
    sent = {"externalId": "<1>"}
    moved = await desk.write(case, "two", **sent)
    new = await desk.split(case, [moved])
    assert await desk.write(case, "two", **sent) == new["messages"][0]
    await desk.write(new, "three")
    last = await desk.split(new, new["messages"])
    assert await desk.write(case, "two", **sent) == last["messages"][0]
    assert texts(await desk.read(case)) == ["one"]
    given = {"assignedAgentId": "agent-2", "team": "billing"}
    await desk.principals.read_json("supervisor", "PATCH", f"/support/cases/{last['id']}", json=given)
    body = {"authorType": "customer", "message": "two", **sent}
    path = f"/support/cases/{case['id']}/messages"
    await expect_problem(desk.principals.request("agent", "POST", path, json=body), 409, "external_id_taken")


async def test_no_reader_finds_moved_messages_where_they_were(desk):
    """Each view of the original was kept by its version before, and clients send the tag that they know."""
    case = await desk.open("one", "two")
    for name in ("supervisor", "customer", "analyst"):  # each view is kept
        await desk.read(case, name, "?includeTimeline=true")
    path = f"/support/cases/{case['id']}"
    async with desk.principals.request("customer", "GET", path) as response:
        tag = response.headers["ETag"]
    await desk.split(case, case["messages"][1:])
    async with desk.principals.request("customer", "GET", path, headers={"If-None-Match": tag}) as response:
        assert texts(await response.json()) == ["one"]
    for name in ("supervisor", "analyst"):
        found = await desk.read(case, name, "?includeTimeline=true")
        assert len([each for each in found["timeline"] if each["type"] == "conversation"]) == 1


async def test_splits_that_are_refused(desk):
    """Of other messages, of all of them, of another version, and by customers. Nothing changes."""
    case, other = await desk.open("one", "two"), await desk.open("three")
    for taken, field in ((other["messages"], 0), ([case["messages"][0], {"id": "nobody"}], 1)):
        problem = await expect_problem(desk.request(case, taken), 422, "invalid_request")
        assert [each["field"] for each in problem["errors"]] == [f"messageIds.{field}"]
    await expect_problem(desk.request(case, []), 422, "invalid_request")
    await expect_problem(desk.request(case, case["messages"]), 409, "split_leaves_nothing")
    refused = desk.request(case, case["messages"][:1], headers={"If-Match": '"1"'})
    await expect_problem(refused, 412, "case_changed")
    await expect_problem(desk.request(case, case["messages"][:1], "customer"), 403, "permission_missing")
    await expect_problem(desk.request(case, case["messages"][:1], "other-agent"), 404, "case_not_found")

    await expect_problem(desk.request(case, [{"id": str(number)} for number in range(101)]), 422, "invalid_request")
    assert await desk.read(case) == case


async def test_split_and_merge_bring_back_the_conversation(desk):
    """The new case merged into its original: all messages are read as one again."""
    case = await desk.open("one", "two", "three")
    new = await desk.split(case, case["messages"][1:2])
    body = {"into": case["id"]}
    await desk.principals.read_json("agent", "POST", f"/support/cases/{new['id']}/merge", json=body)
    for name in ("agent", "customer"):
        assert texts(await desk.read(case, name)) == ["one", "two", "three"]
    with_files = await desk.principals.read_json("agent", "GET", f"/support/cases/{case['id']}/attachments")
    assert with_files == []

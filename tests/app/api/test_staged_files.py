"""Staged files: only their uploader sees them before the message that names them is sent."""

import pytest_asyncio

from tests.support.calls import expect_json, expect_problem, form
from tests.support.links import OWN
from tests.support.scrape import Changes
from tests.support.service import service_of

NEW_CASE = {"subject": "A parcel", "channel": "email", "team": "returns", **OWN}
MESSAGE = {"authorType": "agent", "message": "See the files."}


class Case:
    """A case of customer-1 and agent-1, and what a principal does with its files."""

    def __init__(self, principals, case_id):
        self.principals = principals
        self.path = f"/support/cases/{case_id}"

    async def stage(self, name="agent", data=b"hello", filename="note.txt"):
        path = f"{self.path}/attachments?staged=true"
        return await self.principals.read_json(name, "POST", path, data=form(data, filename))

    async def send(self, ids, name="agent", **fields):
        """Send a message that names files."""
        body = MESSAGE | {"attachmentIds": ids} | fields
        return await self.principals.read_json(name, "POST", f"{self.path}/messages", json=body)

    async def refuse(self, ids, name="agent", **fields):
        """Return the problem of a message that names files and is refused."""
        body = MESSAGE | {"attachmentIds": ids} | fields
        response = await self.principals.request(name, "POST", f"{self.path}/messages", json=body)
        return await expect_problem(response, 422, "attachment_not_sendable")

    def delete(self, file, name="agent", **sent):
        return self.principals.request(name, "DELETE", f"{self.path}/attachments/{file['id']}", **sent)

    async def read(self, name="agent", path=""):
        """Return the case, or what is below it."""
        return await self.principals.read_json(name, "GET", self.path + path)

    async def audited(self):
        """Return the audited actions of the case, the newest first. A job seals the entries at any moment."""
        return [entry["action"] for entry in (await self.read("supervisor", "/audit"))["items"]]

    async def seen_files(self, name):
        """Return the ids of the files that a principal sees, by each way to list them."""
        detail = await self.read(name, "?includeTimeline=true")
        uris = [entry["uri"].split("/")[-2] for entry in detail["timeline"] if entry["type"] == "attachment"]
        listed = [file["id"] for file in await self.read(name, "/attachments")]
        assert [file["id"] for file in detail["attachments"]] == listed == uris
        return listed


async def opened(principals):
    """Return a new case."""
    return Case(principals, (await principals.read_json("supervisor", "POST", "/support/cases", json=NEW_CASE))["id"])


@pytest_asyncio.fixture(loop_scope="module")
async def case(shared_principals):
    return await opened(shared_principals)


async def test_nobody_else_sees_a_file_before_its_message_is_sent(case):
    """It is in no list, timeline, event and version. The message makes all its files public at once."""
    before = {name: await case.read(name, "?includeTimeline=true") for name in ("agent", "supervisor", "customer")}
    audited = await case.audited()
    files = [await case.stage(filename=name) for name in ("a.txt", "b.txt")]
    for name, detail in before.items():
        assert await case.read(name, "?includeTimeline=true") == detail
    assert await case.audited() == audited == ["case.opened"]
    assert all(file["stagedUntil"] > file["createdAt"] for file in files)
    for name, status in (("agent", 200), ("supervisor", 404), ("customer", 404)):
        await expect_json(case.principals.request(name, "GET", files[0]["uri"]), status)
        if status == 404:
            await expect_problem(case.delete(files[0], name), 404, "attachment_not_found")
    ids = [file["id"] for file in files]
    message = await case.send(ids)
    assert (message["attachmentIds"], message["attachmentUri"]) == (ids, files[0]["uri"])
    for name in before:
        assert await case.seen_files(name) == ids
        detail = await case.read(name, "?includeTimeline=true")
        assert detail["messages"][0]["attachmentIds"] == ids
        said = next(entry for entry in detail["timeline"] if entry["type"] == "conversation")
        assert (said["attachmentIds"], said["attachmentUri"]) == (ids, files[0]["uri"])
        assert "stagedUntil" not in detail["attachments"][0]
    assert sorted(await case.audited()) == ["attachment.added", "attachment.added", "case.opened", "message.added"]


async def test_files_of_a_note_stay_internal(case):
    """A staged file gets the visibility of its message; a later note hides no file that a reply has named."""
    files = [await case.stage(), await case.stage()]
    ids = [file["id"] for file in files]
    await case.send(ids, visibility="internal")
    assert await case.seen_files("supervisor") == ids
    assert await case.seen_files("customer") == []
    await case.send(ids)
    assert await case.seen_files("customer") == ids
    await case.send(ids, visibility="internal")
    assert await case.seen_files("customer") == ids


async def test_a_customer_stages_and_deletes_files_of_their_own(case):
    """What a customer has sent stays: the deletion of a file of the case is for staff, and audited."""
    kept, dropped = await case.stage("customer"), await case.stage("customer")
    assert await case.seen_files("agent") == await case.seen_files("customer") == []
    await expect_json(case.delete(dropped, "customer"), 204)
    await case.refuse([dropped["id"]], "customer", authorType="customer")
    await case.send([kept["id"]], "customer", authorType="customer")
    assert await case.seen_files("agent") == [kept["id"]]
    await expect_problem(case.delete(kept, "customer"), 403, "permission_missing")
    await expect_json(case.delete(kept), 204)
    assert await case.seen_files("customer") == []
    removed = (await case.read("supervisor", "/audit?limit=1"))["items"][0]
    assert (removed["action"], removed["actor"]) == ("attachment.removed", "agent")


async def test_a_message_that_names_an_unknown_file_is_refused(case):
    """The problem names each id; nothing is sent, and the other staged files still wait."""
    mine, foreign, internal = await case.stage(), await case.stage("supervisor"), await case.stage()
    await case.send([internal["id"]], visibility="internal")
    far = await (await opened(case.principals)).stage()
    for wrong in (foreign["id"], far["id"], "unknown"):
        problem = await case.refuse([mine["id"], wrong])
        assert wrong in problem["detail"]
        assert [error["field"] for error in problem["errors"]] == ["attachmentIds.1"]
    await case.refuse([internal["id"]], "customer", authorType="customer")
    assert await case.seen_files("customer") == []
    await case.send([mine["id"]])
    assert await case.seen_files("customer") == [mine["id"]]


async def test_a_message_names_each_of_at_most_twenty_files_once(case):
    """Repeated ids, more ids, a URI beside them, and files of a case that does not exist yet are refused."""
    file = (await case.stage())["id"]
    new = NEW_CASE | {"initialMessage": MESSAGE | {"attachmentIds": [file]}}
    for path, body, field in (
        ("/messages", MESSAGE | {"attachmentIds": [file, file]}, "attachmentIds"),
        ("/messages", MESSAGE | {"attachmentIds": [f"id-{number}" for number in range(21)]}, "attachmentIds"),
        ("/messages", MESSAGE | {"attachmentIds": [file], "attachmentUri": "https://a.example"}, "attachmentIds"),
        ("/close", {"attachmentIds": [file]}, "attachmentIds"),
        (None, new, "initialMessage"),
    ):
        url = case.path + path if path else "/support/cases"
        response = await case.principals.request("agent", "POST", url, json=body)
        problem = await expect_problem(response, 422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [field]
    path = f"{case.path}/attachments?staged=true&visibility=public"
    await expect_problem(case.principals.request("agent", "POST", path, data=form(b"x")), 422, "invalid_request")


async def test_repeats_of_a_message_send_its_files_once(case):
    """The same idempotency key or external id answers with the message; an outdated version sends nothing."""
    file = (await case.stage())["id"]
    body, path = MESSAGE | {"attachmentIds": [file], "externalId": "mail-1"}, f"{case.path}/messages"
    outdated = await case.principals.request("agent", "POST", path, json=body, headers={"If-Match": '"7"'})
    await expect_problem(outdated, 412, "case_changed")
    assert await case.seen_files("customer") == []
    headers = {"Idempotency-Key": "once"}
    first = await case.principals.read_json("agent", "POST", path, json=body, headers=headers)
    again = await case.principals.read_json("agent", "POST", path, json=body, headers=headers)
    repeated = await case.principals.read_json("agent", "POST", path, json=body)
    assert first == again == repeated
    assert await case.seen_files("customer") == [file]


async def test_the_last_message_of_a_case_names_files(case):
    """Closing sends them like any other message."""
    file = (await case.stage())["id"]
    body = {"message": "Done.", "attachmentIds": [file]}
    closed = await case.principals.read_json("agent", "POST", f"{case.path}/close", json=body)
    assert closed["messages"][0]["attachmentIds"] == [each["id"] for each in closed["attachments"]] == [file]
    assert closed["status"] == "closed"


async def test_a_staged_file_is_in_the_backlog_from_its_message_on(case):
    """The number of stored files counts it at its upload, and not again. Its bytes stay the same."""
    changes = Changes(service_of(case.principals.client).metrics)
    file = await case.stage(data=b"12345")
    assert changes.nonzero("support_attachment_stored_total") == {"text/plain": 1}
    assert changes.value("support_attachment_backlog_bytes") == 0
    await case.send([file["id"]])
    assert changes.value("support_attachment_backlog_bytes") == len(b"12345")
    assert changes.nonzero("support_attachment_stored_total") == {"text/plain": 1}
    async with case.principals.request("customer", "GET", file["uri"]) as response:
        assert await response.read() == b"12345"

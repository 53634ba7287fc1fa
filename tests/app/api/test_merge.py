"""Merged cases: a closed duplicate is read as one with its original, which gets what is sent to the duplicate."""

from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest

from support_service.attachments import uploader
from support_service.cases import service
from support_service.cases.sql import link_rows
from support_service.core.clock import format_time, utc_now
from support_service.platform.unit_of_work import unit_of_work
from tests.support.access.principals import Principals
from tests.support.calls import expect_json, expect_problem, form
from tests.support.links import FOREIGN, OWN


class Desk:
    """What principals do with cases."""

    def __init__(self, principals: Principals) -> None:
        self.principals = principals

    async def open(self, text="Where is it?", **fields):
        """Open a case with a message of the customer; return its id."""
        new = {"subject": "A parcel", "channel": "email", "initialMessage": {"authorType": "customer", "message": text}}
        return (await self.principals.read_json("supervisor", "POST", "/support/cases", json=new | OWN | fields))["id"]

    async def merge(self, case, into, name="supervisor"):
        """Merge a case into another one; return the answer."""
        return await self.principals.read_json(name, "POST", f"/support/cases/{case}/merge", json={"into": into})

    async def unmerge(self, case):
        """Remove the link of a duplicate."""
        (link,) = [each for each in (await self.read(case))["links"] if each["kind"] == "duplicate-of"]
        request = self.principals.request("supervisor", "DELETE", f"/support/cases/{case}/links/{link['id']}")
        await expect_json(request, 204)

    async def write(self, case, text, name="customer", **fields):
        """Add a message; return the id of the case that it is in."""
        body = {"authorType": "agent" if name != "customer" else name, "message": text} | fields
        answer = await self.principals.read_json(name, "POST", f"/support/cases/{case}/messages", json=body)
        return answer["ticketId"]

    async def refuse(self, case, text, status, code, name="customer", **fields):
        body = {"authorType": name, "message": text} | fields
        refused = self.principals.request(name, "POST", f"/support/cases/{case}/messages", json=body)
        await expect_problem(refused, status, code)

    async def read(self, case, name="supervisor", query=""):
        return await self.principals.read_json(name, "GET", f"/support/cases/{case}{query}")

    async def texts(self, case, name="supervisor"):
        return [each["message"] for each in (await self.read(case, name))["messages"]]


def run_before_arrival(monkeypatch, module, action):
    """Run an action once, before what is sent to a duplicate arrives in its original; the list returned then has items.

    The transaction with the duplicate alone was rolled back by then; the next one has the rows of both cases.
    """
    begun = []

    @asynccontextmanager
    async def begin(*arguments, **options):
        if len(rows := arguments[2:]) > 1 and not begun:
            begun.extend(rows)
            await action()
        async with unit_of_work(*arguments, **options) as work:
            yield work

    monkeypatch.setattr(module, "unit_of_work", begin)
    return begun


@pytest.fixture
def desk(principals):
    """What principals do with cases."""
    return Desk(principals)


async def test_merged_case_is_read_as_one_with_its_original(desk):
    """In its conversation, pages, files, timeline, and for its customer; the answer is the original."""
    original, case = await desk.open("one"), await desk.open("two")
    await desk.write(original, "three")
    answer = await desk.merge(case, original, "agent")
    assert (answer["id"], answer["status"]) == (original, "open")
    for name in ("supervisor", "agent", "customer"):
        assert await desk.texts(original, name) == ["one", "two", "three"]
        assert await desk.texts(case, name) == ["two"]
        duplicate = await desk.read(case, name)
        assert (duplicate["status"], duplicate["mergedInto"]) == ("closed", original)
        timeline = (await desk.read(original, name, "?includeTimeline=true"))["timeline"]
        assert [each["message"] for each in timeline if each["type"] == "conversation"] == ["one", "two", "three"]
    assert (await desk.read(case, "analyst"))["mergedInto"] == original
    assert "mergedInto" not in await desk.read(original)
    assert (await desk.merge(case, original)) == answer  # merged already: nothing changes


async def test_pages_of_a_merged_conversation_have_each_message_once(desk):
    """In the order of time, whichever case they are in; a page continues after a message of any of them."""
    original, one, two = [await desk.open(str(number)) for number in range(3)]
    for number in range(3, 9):
        visibility = "internal" if number == 5 else "public"
        await desk.write((one, original, two)[number % 3], str(number), "agent", visibility=visibility)
    await desk.merge(one, original)
    await desk.merge(two, original)
    for name, expected in (("agent", "012345678"), ("customer", "01234678")):
        found, after, more = "", "", True
        while more:
            page = await desk.read(original, name, f"?messagesLimit=2{after}")
            found += "".join(each["message"] for each in page["messages"])
            more, after = page["moreMessages"], f"&messagesAfter={page['messages'][-1]['id']}"
            assert len(page["messages"]) == 2 or not more
        assert found == expected
    path = f"/support/cases/{original}?messagesAfter={original}"
    await expect_problem(desk.principals.request("agent", "GET", path), 422, "invalid_request")


@pytest.mark.parametrize("module", [service, uploader], ids=["message", "file"])
async def test_what_is_sent_to_a_duplicate_stays_in_it_if_it_is_opened_at_that_moment(desk, monkeypatch, module):
    """After it was found to be closed, and before anything has arrived in the original."""
    original, case = await desk.open("one"), await desk.open("two")
    await desk.merge(case, original)
    opening = f"/support/cases/{case}/status?status=open"
    begun = run_before_arrival(monkeypatch, module, partial(desk.principals.read_json, "supervisor", "POST", opening))
    if module is service:
        assert await desk.write(case, "three", "supervisor") == case
    else:
        path = f"/support/cases/{case}/attachments"
        stored = await desk.principals.read_json("supervisor", "POST", path, data=form(b"three"))
        assert stored["ticketId"] == case
    assert begun


async def test_messages_and_files_for_a_duplicate_arrive_in_the_original(desk):
    """Along a chain of duplicates, to its end; a resolved original is opened again."""
    end, middle, case = [await desk.open(str(number)) for number in range(3)]
    await desk.merge(case, middle)
    await desk.merge(middle, end)
    await desk.principals.read_json("agent", "POST", f"/support/cases/{end}/status", json={"status": "resolved"})
    assert await desk.write(case, "a") == end
    assert (await desk.read(end))["status"] == "open"
    assert await desk.write(middle, "b", "agent") == end
    assert await desk.write(case, "c", "agent", visibility="internal") == case  # a note is about the duplicate
    assert await desk.texts(end) == ["0", "1", "2", "a", "b", "c"]
    assert await desk.texts(end, "customer") == ["0", "1", "2", "a", "b"]
    assert await desk.texts(case) == ["2", "c"]
    files = f"/support/cases/{case}/attachments"
    direct = await desk.principals.read_json("customer", "POST", files, data=form(b"direct"))
    staged = await desk.principals.read_json("customer", "POST", f"{files}?staged=true", data=form(b"staged"))
    assert (direct["ticketId"], staged["ticketId"]) == (end, case)
    assert await desk.write(case, "d", attachmentIds=[staged["id"], direct["id"]]) == end
    found = (await desk.read(end, "customer"))["attachments"]
    assert [each["id"] for each in found] == [direct["id"], staged["id"]]
    for each in found:
        await expect_json(desk.principals.request("customer", "GET", each["uri"]))
    # A closed original takes no more of them, as any closed case.
    await desk.principals.read_json("agent", "POST", f"/support/cases/{end}/close", json={})
    await desk.refuse(case, "e", 409, "case_closed")


async def test_merge_is_undone_exactly(desk):
    """The duplicate gets its status and its snooze back, and what is sent to it.

    What had arrived in the original stays there.
    """
    original, case = await desk.open("one"), await desk.open("two")
    snooze = {"status": "pending", "until": format_time(utc_now() + timedelta(days=1))}
    await desk.principals.read_json("agent", "POST", f"/support/cases/{case}/status", json=snooze)
    before = await desk.read(case)
    await desk.merge(case, original)
    assert (before["snoozedUntil"], (await desk.read(case))["snoozedUntil"]) == (snooze["until"], None)
    await desk.write(case, "three")
    await desk.unmerge(case)
    assert await desk.texts(original) == ["one", "three"]
    after = await desk.read(case)
    changed = {"updatedAt", "sla"}
    assert {name: value for name, value in after.items() if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }
    assert await desk.write(case, "four") == case
    assert await desk.texts(case) == ["two", "four"]


async def test_reopened_duplicate_takes_its_messages_itself(desk):
    """It is still read with its original."""
    original, case = await desk.open("one"), await desk.open("two")
    await desk.merge(case, original)
    await desk.principals.read_json("agent", "POST", f"/support/cases/{case}/status", json={"status": "open"})
    assert "mergedInto" not in await desk.read(case)
    assert await desk.write(case, "three") == case
    assert await desk.texts(original) == ["one", "two", "three"]


async def test_customers_never_read_each_other(desk):
    """Cases of two customers are one for staff only, and each customer's messages stay in their own case."""
    original, case = await desk.open("one"), await desk.open("two", **FOREIGN)
    await desk.merge(case, original)
    assert await desk.texts(original, "agent") == ["one", "two"]
    for name, of in (("customer", original), ("other-customer", case)):
        shown = await desk.read(of, name)
        assert len(shown["messages"]) == 1
        assert (shown["links"], shown.get("mergedInto")) == ([], None)
        async with desk.principals.request(name, "GET", f"/support/cases/{of}/attachments") as response:
            assert await response.json() == []
    await desk.refuse(case, "three", 409, "case_closed", "other-customer", authorType="customer")
    # An answer for the customer of the duplicate is not for the customer of the original.
    assert await desk.write(case, "four", "supervisor") == case
    assert await desk.texts(original, "customer") == ["one"]
    assert await desk.texts(case, "other-customer") == ["two", "four"]
    without, another = await desk.open("five", customerId=None), await desk.open("six", customerId=None)
    await desk.merge(without, original)
    assert await desk.texts(original, "customer") == ["one"]
    assert await desk.write(without, "seven", "supervisor") == without
    await desk.unmerge(without)
    await desk.merge(without, another)
    assert await desk.write(without, "eight", "supervisor") == another


async def test_agents_of_the_original_read_the_files_of_its_duplicates(desk):
    """Though the duplicate is none of their cases. What they send to it is refused as before."""
    original, case, unrelated = await desk.open(), await desk.open(**FOREIGN), await desk.open(**FOREIGN)
    path = f"/support/cases/{case}/attachments"
    files = []
    for visibility in ("public", "internal"):
        sent = f"{path}?visibility={visibility}"
        files.append(await desk.principals.read_json("supervisor", "POST", sent, data=form(visibility.encode())))
    hidden = await desk.principals.read_json(
        "supervisor", "POST", f"/support/cases/{unrelated}/attachments", data=form(b"no")
    )
    await expect_problem(desk.principals.request("agent", "GET", files[0]["uri"]), 404, "attachment_not_found")
    await desk.merge(case, original)
    listed = await desk.principals.read_json("agent", "GET", f"/support/cases/{original}/attachments")
    assert listed == files == (await desk.read(original, "agent"))["attachments"]
    for each in files:
        async with desk.principals.request("agent", "GET", each["uri"]) as response:
            assert await response.read() == each["visibility"].encode()
    for name, each in (("agent", hidden), ("customer", files[0]), ("customer", files[1])):
        await expect_problem(desk.principals.request(name, "GET", each["uri"]), 404, "attachment_not_found")
    await expect_problem(desk.principals.request("agent", "GET", f"/support/cases/{case}"), 404, "case_not_found")
    await desk.refuse(case, "no", 404, "case_not_found", "agent")


async def test_search_and_lists_say_what_a_found_duplicate_is_merged_into(desk):
    """A hit in its messages is one row, which names the original; for customers if that is theirs, too."""
    original, case, foreign = await desk.open("apple"), await desk.open("banana"), await desk.open("mango", **FOREIGN)
    await desk.merge(case, original)
    await desk.merge(foreign, original)

    async def found(name, word):
        page = await desk.principals.read_json(name, "GET", f"/support/cases?q={word}&limit=3")
        return [
            (each["id"], each.get("mergedInto")) for each in page["items"] if each["id"] in (original, case, foreign)
        ]

    for name in ("agent", "customer"):
        assert await found(name, "banana") == [(case, original)]
        assert (original, None) in await found(name, "apple")
    assert await found("supervisor", "mango") == [(foreign, original)]
    assert await found("other-customer", "mango") == [(foreign, None)]
    page = await desk.principals.read_json("agent", "GET", "/support/customers/customer-1?limit=4")
    assert (case, original) in [(each["id"], each.get("mergedInto")) for each in page["cases"]]
    active = await desk.principals.read_json("agent", "GET", "/support/cases?status=open&limit=3")
    assert case not in [each["id"] for each in active["items"]]


async def test_version_of_a_message_for_a_duplicate_is_that_of_the_duplicate(desk):
    """Which the sender has read."""
    original, case = await desk.open(), await desk.open()
    await desk.merge(case, original)
    path, body = f"/support/cases/{case}/messages", {"authorType": "agent", "message": "Hello"}
    for version, status in (('"1"', 412), ('"3"', 200)):
        request = desk.principals.request("agent", "POST", path, json=body, headers={"If-Match": version})
        await expect_json(request, status)


@pytest.mark.parametrize("module", [service, uploader])
async def test_version_of_a_duplicate_is_that_when_the_write_takes_effect(desk, monkeypatch, module):
    """Not when the service finds out that the write arrives in another case: a note may come in between."""
    original, case = await desk.open(), await desk.open()
    await desk.merge(case, original)
    note = partial(desk.write, case, "Do not tell", "agent", visibility="internal")
    begun = run_before_arrival(monkeypatch, module, note)
    sent = {"json": {"authorType": "agent", "message": "Hello"}} if module is service else {"data": form(b"bytes")}
    path = f"/support/cases/{case}/{'messages' if module is service else 'attachments'}"
    answer = await desk.principals.request("agent", "POST", path, headers={"If-Match": '"3"'}, **sent)
    problem = await expect_problem(answer, 412, "case_changed")
    assert begun
    if module is service:  # the conflict of a message shows the conversation of the duplicate
        assert problem["currentVersion"] == 4
        assert "Do not tell" in [each["message"] for each in problem["messages"]]
    found = await desk.read(original)
    assert ("Hello" in [each["message"] for each in found["messages"]], found["attachments"]) == (False, [])


async def test_customers_read_their_duplicates_that_were_merged_by_way_of_others(desk):
    """A case was merged into one of another customer, and that into a case of the first. Each reads its own."""
    original, own, foreign = await desk.open("one"), await desk.open("two"), await desk.open("three", **FOREIGN)
    await desk.merge(own, foreign)
    path = f"/support/cases/{original}"
    before = await desk.principals.read_json("customer", "GET", f"{path}?includeTimeline=true")
    await desk.merge(foreign, original)
    for query in ("", "?messagesLimit=10", "?includeTimeline=true", "?includeLinked=true"):
        found = await desk.read(original, "customer", query)
        assert [each["message"] for each in found["messages"]] == ["one", "two"]
        assert [each["message"] for each in (await desk.read(original, query=query))["messages"]] == [
            *("one", "two", "three")
        ]
    shown = (await desk.read(original, "customer", "?includeTimeline=true"))["timeline"]
    assert len(shown) > len(before["timeline"])
    assert foreign not in {each.get("ticketId") for each in shown}


@pytest.mark.parametrize("is_merged", [False, True])
async def test_repeat_of_a_message_is_answered_whatever_its_version(desk, is_merged):
    """By its external id. The case, or the duplicate, has changed since."""
    case, version = await desk.open(), '"1"'
    if is_merged:
        await desk.merge(case, await desk.open())
        version = '"3"'
    body = {"authorType": "agent", "message": "Hello", "externalId": "mail-1"}
    answers = []
    for _ in range(2):
        path, sent = f"/support/cases/{case}/messages", {"json": body, "headers": {"If-Match": version}}
        async with desk.principals.request("agent", "POST", path, **sent) as answer:
            answers.append((answer.status, await answer.json()))
        await desk.write(case, "Do not tell", "agent", visibility="internal")
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


@pytest.mark.parametrize("name", ["customer", "supervisor"])
async def test_repeat_is_found_in_each_case_that_the_message_may_be_in(desk, name):
    """In the duplicate before the merge, in the middle of a chain, and in the original of one that was opened again."""
    end, middle, case = [await desk.open() for _ in range(3)]
    before = partial(desk.write, case, "Before", name, externalId="mail-0")
    send = partial(desk.write, case, "Hello", name, externalId="mail-1")
    assert await before() == case
    await desk.merge(case, middle)
    assert await before() == case
    assert await send() == middle
    await desk.merge(middle, end)
    assert await send() == middle
    assert (await desk.texts(end)).count("Hello") == 1
    await desk.principals.read_json("supervisor", "POST", f"/support/cases/{case}/status?status=open")
    assert await send() == middle


async def test_external_id_in_the_case_of_another_customer_is_that_of_another_message(desk):
    """Customers do not learn of it: the answer is that to any message. The texts of others are added, too."""
    foreign, case = await desk.open(**FOREIGN), await desk.open()
    await desk.write(foreign, "Hello", "supervisor", externalId="mail-1")
    await desk.write(foreign, "Hello", "supervisor", externalId="mail-2")
    await desk.merge(case, foreign)
    await desk.refuse(case, "Hello", 409, "case_closed", externalId="mail-1")
    assert await desk.write(case, "Hello", "supervisor", externalId="mail-2") == case
    await desk.principals.read_json("supervisor", "POST", f"/support/cases/{case}/status?status=open")
    assert await desk.write(case, "Hello", externalId="mail-1") == case


async def test_stored_answer_of_a_repeat_belongs_to_the_case_of_its_message(desk):
    """Who may not see that case any more gets no replay, although it may see the duplicate."""
    original, case = await desk.open(), await desk.open()
    await desk.write(case, "Hello", "agent", externalId="mail-1")
    await desk.merge(case, original)
    await desk.write(case, "Hello", "agent", externalId="mail-2")

    async def repeat(name):
        body = {"authorType": "agent", "message": "Hello", "externalId": name}
        path, headers = f"/support/cases/{case}/messages", {"Idempotency-Key": f"repeat-{name}"}
        async with desk.principals.request("agent", "POST", path, json=body, headers=headers) as answer:
            return answer.status, (await answer.json()).get("ticketId")

    before = [await repeat("mail-1"), await repeat("mail-2")]
    assert before == [(200, case), (200, original)]
    changed = {"json": {"assignedAgentId": "somebody-else"}}
    await desk.principals.read_json("supervisor", "PATCH", f"/support/cases/{original}", **changed)
    assert [await repeat("mail-1"), await repeat("mail-2")] == [(200, case), (404, None)]


@pytest.mark.parametrize("action", ["merge", "split"])
async def test_stored_answer_belongs_to_the_case_that_it_shows(desk, action):
    """The original of a merge, and the new case of a split: who may not see it any more gets no replay."""
    case, original = await desk.open(), await desk.open()
    await desk.write(case, "Hello", "agent")
    moved = (await desk.read(case))["messages"][0]["id"]
    body = {"into": original} if action == "merge" else {"messageIds": [moved], "subject": "Another parcel"}
    sent = {"json": body, "headers": {"Idempotency-Key": action}}
    shown = await desk.principals.read_json("agent", "POST", f"/support/cases/{case}/{action}", **sent)
    assert shown["id"] != case
    given = {"json": {"assignedAgentId": "somebody-else"}}
    await desk.principals.read_json("supervisor", "PATCH", f"/support/cases/{shown['id']}", **given)
    answer = await desk.principals.request("agent", "POST", f"/support/cases/{case}/{action}", **sent)
    await expect_problem(answer, 404, "case_not_found")


async def test_undone_merge_leaves_a_case_closed_that_was_closed_meanwhile(desk, monkeypatch):
    """The duplicate is opened and closed again between the first look at the link and the lock of the case."""
    original, case = await desk.open(), await desk.open()
    await desk.merge(case, original)
    find = link_rows.find

    async def find_and_reopen(*arguments):
        found = await find(*arguments)
        monkeypatch.setattr(link_rows, "find", find)
        for status in ("open", "closed"):
            path = f"/support/cases/{case}/status?status={status}"
            await desk.principals.read_json("supervisor", "POST", path)
        return found

    monkeypatch.setattr(link_rows, "find", find_and_reopen)
    await desk.unmerge(case)
    assert link_rows.find is find
    assert (await desk.read(case))["status"] == "closed"


async def test_repeated_message_for_a_duplicate_is_added_once(desk):
    """By its Idempotency-Key, also if the merge was undone in between."""
    original, case = await desk.open(), await desk.open()
    await desk.merge(case, original)
    path, body = f"/support/cases/{case}/messages", {"authorType": "agent", "message": "Hello"}
    answers = []
    for _ in range(2):
        async with desk.principals.request(
            "agent", "POST", path, json=body, headers={"Idempotency-Key": "merged"}
        ) as answer:
            answers.append(await answer.json())
        if len(answers) == 1:
            await desk.unmerge(case)
    assert answers[0] == answers[1]
    assert (answers[0]["ticketId"], await desk.texts(case)) == (original, ["Where is it?"])


async def test_merges_that_are_refused(desk):
    """With itself, an unknown case, a second original, a closed one, and in a circle."""
    one, two, three = [await desk.open() for _ in range(3)]

    async def refuse(case, into, status, code, name="supervisor"):
        sent = {"json": {"into": into}}
        refused = desk.principals.request(name, "POST", f"/support/cases/{case}/merge", **sent)
        return await expect_problem(refused, status, code)

    assert (await refuse(one, one, 422, "invalid_request"))["errors"][0]["field"] == "into"
    await refuse(one, "nobody", 404, "case_not_found")
    await refuse(one, await desk.open(**FOREIGN), 404, "case_not_found", "agent")
    await refuse(one, two, 403, "permission_missing", "customer")
    await desk.merge(one, two)
    await refuse(one, three, 409, "already_duplicate")
    await desk.merge(two, three)
    await refuse(three, one, 409, "link_cycle")
    await refuse(await desk.open(), two, 409, "duplicate_of_closed_case")

"""Who wrote a message: what the service sets, who may name another author, and who is shown it."""

from support_service.cases.case_erasure import erase_event
from tests.support.calls import eventually, expect_problem
from tests.support.each import each_row


async def read_authors(desk, case, name, query=""):
    """Return the authors that a caller is shown of the messages of a case."""
    document = await desk.send("GET", f"/support/cases/{case['id']}{query}", name)
    return [each["authorId"] for each in document["messages"]]


async def entry_authors(desk, case, name):
    """Return the authors that a caller is shown in the timeline."""
    document = await desk.send("GET", f"/support/cases/{case['id']}?includeTimeline=true", name)
    return [each["authorId"] for each in document["timeline"] if each["type"] == "conversation"]


async def test_service_sets_the_author(desk):
    """An agent is named by its subject, a supervisor without one by its name, and a program is `bot`.

    Customers see their own ids and none of staff. Analysts see ids of staff, and the pseudonym of the customer.
    """
    case = await desk.open_case(customerId="customer-1", team="returns")
    sent = [
        await desk.add(case, "ann"),
        await desk.add(case, "lan", authorType="agent", authorId="agent-1", externalId="mail-1"),
        await desk.add(case, "supervisor", authorType="agent"),
        await desk.add(case, "supervisor", authorType="customer"),  # written down for the customer
        await desk.add(case, "supervisor", authorType="bot"),
    ]
    authors = ["customer-1", "agent-1", "supervisor", "customer-1", "bot"]
    assert [each["authorId"] for each in sent] == authors
    pseudonym = (await desk.send("GET", f"/support/cases/{case['id']}", "analyst"))["customerId"]
    assert pseudonym not in (None, "customer-1")
    for name, seen in (
        ("supervisor", authors),
        ("ann", ["customer-1", None, None, "customer-1", None]),
        ("analyst", [pseudonym, "agent-1", "supervisor", pseudonym, "bot"]),
    ):
        assert await read_authors(desk, case, name) == seen
        assert await read_authors(desk, case, name, "?messagesLimit=2") == seen[:2]
        assert await entry_authors(desk, case, name) == seen
    repeated = await desk.add(case, "ann", externalId="mail-1")
    assert (repeated["authorType"], repeated["authorId"]) == ("agent", None)


@each_row("name", ["ann", "lan", "supervisor"])
async def test_only_services_name_another_author(desk, name):
    """Anybody else is refused, instead of being ignored: the message would say something else than was asked."""
    case = await desk.open_case(customerId="customer-1", team="returns")
    message = {"authorType": "customer", "message": "Hello", "authorId": "somebody"}
    headers = {"Authorization": f"Bearer {desk.tokens[name]}"}
    sent = await desk.client.post(f"/support/cases/{case['id']}/messages", json=message, headers=headers)
    assert "messages:write-as-others" in (await expect_problem(sent, 403, "permission_missing"))["detail"]


SERVICE_MAY_NAME_THE_AUTHOR = [
    ({"authorType": "customer"}, "customer-1"),
    ({"authorType": "customer", "authorId": "a wife"}, "a wife"),
    ({"authorType": "agent"}, "shop"),
    ({"authorType": "agent", "authorId": "agent-7"}, "agent-7"),
    ({"authorType": "bot", "authorId": "faq"}, "faq"),
]


@each_row("first, author", SERVICE_MAY_NAME_THE_AUTHOR)
async def test_service_may_name_the_author(desk, first, author):
    message = {"message": "Hello", **first}
    sent = {"subject": "A parcel", "channel": "email", "customerId": "customer-1", "initialMessage": message}
    case = await desk.send("POST", "/support/cases", "service", json=sent)
    assert case["messages"][0]["authorId"] == author
    assert await read_authors(desk, case, "supervisor") == [author]


async def test_stream_shows_each_role_its_authors(desk):
    """A customer gets the message of an agent without the agent's id."""
    case = await desk.open_case(customerId="customer-1", team="returns")
    await desk.publish_all()
    async with desk.follow("supervisor") as staff, desk.follow("ann") as customer:
        await desk.add(case, "lan", authorType="agent")
        await eventually(lambda: staff.changes and customer.changes)
        seen = [stream.changes[0].data["message"]["authorId"] for stream in (staff, customer)]
    assert seen == ["agent-1", None]


def test_erasure_keeps_who_answered():
    """The author of a customer's message is removed from stored events."""
    messages = [{"authorType": kind, "authorId": f"{kind}-1"} for kind in ("customer", "agent", "bot")]
    for message in messages:
        erased = erase_event(f'{{"data": {{"conversation": {str(message).replace(chr(39), chr(34))}}}}}', ())
        assert ("-1" in erased) == (message["authorType"] != "customer")

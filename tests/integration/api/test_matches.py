"""Where the cases of a search match."""

import pytest
import pytest_asyncio

from support_service.cases.case_erasure import erase_case
from support_service.core.clock import utc_now
from support_service.platform.database.tables import messages
from tests.conftest import both_databases
from tests.support.calls import add_message, list_cases, open_case, upload
from tests.support.service import service_of

pytestmark = both_databases


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_client):
    """A client of one service for all tests of this module, which search for words of their own, and one case."""
    await open_case(
        shared_client,
        subject="😀 Có vết nứt",
        description="Two days ago",
        customerId="khách-9",
        tags=["glass", "urgent"],
        initialMessage={"authorType": "customer", "message": "It was as new"},
    )
    return shared_client


async def matches(client, **query):
    return [item["match"] for item in (await list_cases(client, **query))["items"]]


def highlighted(match):
    return [match["snippet"][start:end] for start, end in match["highlights"]]


@pytest.mark.parametrize(
    ("q", "field", "snippet", "parts"),
    [
        ("vet nut", "subject", "😀 Có vết nứt", ["vết", "nứt"]),
        ("day", "description", "Two days ago", ["day"]),
        ("khach-9", "customerId", "khách-9", ["khách", "9"]),
        ("urgent", "tags", "glass, urgent", ["urgent"]),
        ('"as new"', "message", "It was as new", ["as", "new"]),
    ],
)
@pytest.mark.parametrize("more", [{}, {"customerId": "khách-9"}])
async def test_match_names_the_field_and_the_words(client, q, field, snippet, parts, more):
    """This holds for searches of all customers and of one."""
    (match,) = await matches(client, q=q, **more)
    assert (match["field"], match["snippet"], highlighted(match)) == (field, snippet, parts)


async def test_list_without_a_search_has_no_match(client):
    await open_case(client, subject="A case")
    assert not [item for item in (await list_cases(client))["items"] if "match" in item]


async def test_newest_message_that_matches_is_shown(client):
    """Each case has its own, whatever other changes the case had."""
    cases = [await open_case(client, subject=f"Case {number}") for number in range(3)]
    for number, case in enumerate(cases):
        await add_message(client, case, f"the red parcel {number}")
        await client.patch(f"/support/cases/{case['id']}", json={"priority": "high"})
        await add_message(client, case, f"the blue parcel {number}", visibility="internal")
        await upload(client, case)
        await add_message(client, case, "nothing")
    await open_case(client, subject="A parcel")
    assert [match["snippet"] for match in await matches(client, q="parcel")] == [
        "A parcel",
        "the blue parcel 2",
        "the blue parcel 1",
        "the blue parcel 0",
    ]
    assert [match["snippet"] for match in await matches(client, q="red")] == [
        f"the red parcel {number}" for number in (2, 1, 0)
    ]


async def test_match_follows_the_messages_after_an_erasure(client):
    """The erased messages are no longer found, and a later one is."""
    case = await open_case(client, subject="A case", initialMessage={"authorType": "agent", "message": "a lamp"})
    await add_message(client, case, "another lamp")
    async with service_of(client).database.transaction() as tx:
        await erase_case(tx, case["id"], ())
    await add_message(client, case, "this lamp")
    await add_message(client, case, "bye")
    (found,) = await matches(client, q="lamp")
    assert found.pop("messageId")
    assert found == {"field": "message", "snippet": "this lamp", "highlights": [[5, 9]]}
    assert await matches(client, q="another") == []


async def test_message_of_an_earlier_release_is_not_taken_for_another(client):
    """A message without a document makes the place unknown; the case is found all the same."""
    case = await open_case(client, subject="A case")
    await add_message(client, case, "a chair")
    async with service_of(client).database.transaction() as tx:
        await tx.execute(
            messages.insert(),
            {
                "id": "unknown",
                "ticket_id": case["id"],
                "author_type": "agent",
                "message": "nothing",
                "visibility": "public",
                "created_at": utc_now(),
            },
        )
    (item,) = (await list_cases(client, q="chair"))["items"]
    assert "match" not in item


async def test_words_far_into_a_message_are_found(client):
    """The snippet is the beginning of the message."""
    case = await open_case(client, subject="A case")
    await add_message(client, case, "so " * 20_000 + "plate")
    (match,) = await matches(client, q="plate")
    assert (match["field"], match["highlights"]) == ("message", [])
    assert match["snippet"].startswith("so so ")

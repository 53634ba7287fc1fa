"""What analysts get over HTTP: no answer has a text that a rule of privacy keeps from them."""

import pytest

from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.model.requests import NewCase, NewMessage
from support_service.core.personal import rules_of
from tests.support.access.principals import PERMISSIONS, REQUESTS
from tests.support.calls import eventually, form
from tests.support.stream_desk import open_desk

# A text, or JSON with it, in each field that analysts get masked or hidden, by the model's name of the field.
CASE_TEXTS = {
    "subject": "subject 7700000",
    "description": "description 7700000",
    "customer_id": "customer 7700000",
    "channel": "channel 7700000",
    "context": [{"note": "context 7700000"}],
    "tags": ["tag 7700000"],
    "external_id": "external 7700000",
}
MESSAGE_TEXTS = {
    "message": "message 7700000",
    "attachment_uri": "https://files.test/uri-7700000",
    "sentiment": "sentiment 7700000",
    "metadata": {"note": "metadata 7700000"},
    "external_id": "external message 7700000",
}
FILE = "file 7700000.txt"
TRACES = (*("subject", "description", "customer", "channel", "context", "tag", "external"), "message", "sentiment")
TEXTS = (*(f"{name} 7700000" for name in (*TRACES, "metadata", "file")), "uri-7700000", "file%207700000")
# Addresses of one case beside those that follow from the routes.
STREAMED = {"follow", "export_report"}  # see below, and test_reports.py
MORE_READS = [f"/support/cases/{{case}}{query}" for query in ("", "?includeLinked=true", "?messagesLimit=1")]


def private_fields(model, names):
    """Return the fields that clients may send and that analysts get masked or hidden."""
    return {name for name, rule in rules_of(model).items() if name in names and rule.analyst != "shown"}


def test_texts_of_these_tests_are_in_every_private_field():
    """A field that clients may send and that analysts do not get as it is has a text here, too."""
    assert private_fields(CaseSummary, NewCase.model_fields) == CASE_TEXTS.keys()
    # `authorId` is sent by services, see test_authors.py.
    assert private_fields(Message, NewMessage.model_fields) == MESSAGE_TEXTS.keys() | {"author_id"}


def reads_of_analysts():
    """Return the address of everything that analysts may read, except what is streamed."""
    reads = {
        name for name, (method, *_) in REQUESTS.items() if method == "GET" and "analyst" in PERMISSIONS[name].scopes
    }
    return [REQUESTS[name][1] for name in reads - STREAMED] + MORE_READS


@pytest.fixture
async def desk(make_client, tmp_path):
    """A service with a caller of each kind."""
    return await open_desk(make_client, tmp_path / "tokens.json")


def as_sent(model, texts):
    """Return fields as clients name them."""
    return {model.model_fields[name].alias: value for name, value in texts.items()}


async def open_private_case(desk):
    """Open a case with a text in every private field, a message, a file, a duplicate and a history; return its id."""
    message = {"authorType": "customer", **as_sent(NewMessage, MESSAGE_TEXTS)}
    case = await desk.open_case(**as_sent(NewCase, CASE_TEXTS), initialMessage=message)
    await desk.send("POST", f"/support/cases/{case['id']}/attachments", data=form(b"hello", FILE))
    await desk.change(case, subject=f"again {CASE_TEXTS['subject']}", tags=["vip", *CASE_TEXTS["tags"]])
    other = await desk.open_case(**as_sent(NewCase, CASE_TEXTS | {"external_id": "another"}), initialMessage=message)
    link = {"kind": "duplicate-of", "caseId": case["id"]}
    await desk.send("POST", f"/support/cases/{other['id']}/links", json=link)
    return case["id"]


def found_in(answer):
    return {text for text in TEXTS if text in str(answer)}


async def test_no_answer_to_an_analyst_has_a_private_text(desk):
    """A supervisor gets them from the same addresses of cases."""
    case = await open_private_case(desk)
    view = await desk.send("POST", "/support/views", "analyst", json={"name": "All", "query": {}})
    whole = f"/support/cases/{case}?includeTimeline=true"
    addresses = [address.format(case=case, view=view["id"]) for address in reads_of_analysts()]
    assert {whole, "/support/cases", f"/support/cases/{case}/attachments"} < {*addresses}
    for address in addresses:
        answer = await desk.send("GET", address, "analyst")
        assert answer, address
        assert not found_in(answer), address
    assert found_in(await desk.send("GET", whole)) == {*TEXTS}
    for address in ("/support/cases", *MORE_READS, "/support/cases/{case}/attachments"):
        assert found_in(await desk.send("GET", address.format(case=case))), address


async def test_no_change_that_an_analyst_follows_has_a_private_text(desk):
    """The stream sends changes from the published events."""
    async with desk.follow("supervisor") as full, desk.follow("analyst") as masked:
        await open_private_case(desk)
        await eventually(lambda: len(full.changes) == len(masked.changes) >= 6)
        assert len(found_in([change.data for change in full.changes])) > 5
        assert not found_in([change.data for change in masked.changes])

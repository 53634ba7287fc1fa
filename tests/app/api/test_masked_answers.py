"""What analysts get over HTTP: no answer has a text that a rule of privacy keeps from them."""

import pytest

from support_service.api.routes import ROUTES
from support_service.api.routing.route import PUBLIC
from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.model.requests import NewCase, NewMessage
from support_service.core.personal import rules_of
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
# The answers with data of cases that analysts may read.
READS = {
    "list_cases": ["/support/cases"],
    "get_case": [
        f"/support/cases/{{case}}{query}"
        for query in ("", "?includeTimeline=true", "?includeLinked=true", "?messagesLimit=1")
    ],
    "list_attachments": ["/support/cases/{case}/attachments"],
}
# Answers that name no case; of views, analysts have their own.
WITHOUT_CASES = {"count_cases", "workload", "list_views", "get_view", "get_me"}


def private_fields(model, names):
    """Return the fields that clients may send and that analysts get masked or hidden."""
    return {name for name, rule in rules_of(model).items() if name in names and rule.analyst != "shown"}


def test_texts_of_these_tests_are_in_every_private_field():
    """A field that clients may send and that analysts do not get as it is has a text here, too."""
    assert private_fields(CaseSummary, NewCase.model_fields) == CASE_TEXTS.keys()
    assert private_fields(Message, NewMessage.model_fields) == MESSAGE_TEXTS.keys()


def test_each_read_of_analysts_is_asked_for():
    reads = {
        route.operation
        for route in ROUTES
        if route.method == "GET" and route.access != PUBLIC and "analyst" in route.access.scopes
    }
    assert reads == READS.keys() | WITHOUT_CASES | {"follow"}


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
    """A supervisor gets them from the same address."""
    case = await open_private_case(desk)
    for address in (each.format(case=case) for addresses in READS.values() for each in addresses):
        assert found_in(await desk.send("GET", address)), address
        answer = await desk.send("GET", address, "analyst")
        assert answer, address
        assert not found_in(answer), address
    whole = await desk.send("GET", f"/support/cases/{case}?includeTimeline=true")
    assert found_in(whole) == {*TEXTS}


async def test_no_change_that_an_analyst_follows_has_a_private_text(desk):
    """The stream sends changes from the published events."""
    async with desk.follow("supervisor") as full, desk.follow("analyst") as masked:
        await open_private_case(desk)
        await eventually(lambda: len(full.changes) == len(masked.changes) >= 6)
        assert len(found_in([change.data for change in full.changes])) > 5
        assert not found_in([change.data for change in masked.changes])

"""Exports of other systems become cases of the API, with their times, authors, notes and files."""

import json
from pathlib import Path

import pytest

from support_service.core.errors import ValidationFailed
from support_service.importing import chatwoot, zammad
from support_service.importing.imported_case import ImportedCase, parse_case
from tests.support.each import each_row

SAMPLES = Path(__file__).parents[2] / "data" / "importing"


NOT_COMPARED = {"id", "version", "messages", "attachments", "sent_at", "closed_at", "initial_message"}
NOT_COMPARED |= {"snoozed_until", "links"}
ANN = {"kind": "email", "value": "ann@mail.example", "label": None}
ANN_BY_MAIL = {"name": None, "contacts": [ANN], "notes": None}


def sample(name):
    return json.loads((SAMPLES / f"{name}.json").read_text())


def said(case):
    return [
        (each.author_type, each.visibility, each.message, each.sent_at and f"{each.sent_at:%d %H:%M:%S}")
        for each in case.messages
    ]


def test_zammad_ticket():
    """Articles are sorted by their times; HTML becomes text; files without a path are named in the metadata."""
    case = parse_case(sample("zammad")[0], zammad.map_ticket)
    assert case.model_dump(exclude=NOT_COMPARED) == {
        "external_id": "zammad:7",
        "subject": "Parcel 4711 did not arrive",
        "description": "Zammad ticket 22007\nCalled twice",
        "customer_id": "ann@mail.example",
        "customer": ANN_BY_MAIL,
        "channel": "email",
        "priority": "high",
        "assigned_agent_id": "chris@shop.example",
        "team": "Delivery",
        "tags": ["delivery", "late"],
        "context": [{"type": "zammad", "ticketNumber": "22007", "state": "closed"}],
        "status": "closed",
    }
    assert f"{case.sent_at:%F %T} {case.closed_at:%F %T}" == "2021-11-03 02:57:19 2021-11-05 17:48:52"
    assert said(case) == [
        ("customer", "public", "Where is it?", "03 02:57:19"),
        ("agent", "public", "Hello Ann,\nit is on its way.", "03 05:42:19"),
        ("agent", "internal", "She is impatient", "03 05:43:00"),
        ("bot", "public", "(no text)", "05 17:48:52"),
    ]
    assert [each.author_id for each in case.messages] == [None, "chris@shop.example", "zammad-4", None]
    answer = case.messages[1]
    assert (answer.external_id, answer.attachments) == ("19", ["label.txt"])
    assert answer.metadata == {
        "from": "Chris <chris@shop.example>",
        "to": "ann@mail.example",
        "subject": "Re: Parcel",
        "type": "email",
        "filesLeftOut": ["logo.png"],
    }
    (file,) = case.attachments
    assert (file.path, file.filename) == ("label.txt", "label.txt")
    assert (file.content_type, file.visibility) == ("text/plain", "public")


def test_chatwoot_conversation():
    """Activities are left out, private messages are internal notes, bots are bots."""
    case = parse_case(sample("chatwoot")[0], chatwoot.map_conversation)
    assert case.model_dump(exclude=NOT_COMPARED) == {
        "external_id": "chatwoot:1:12",
        "subject": "Conversation 12",
        "description": None,
        "customer_id": "customer-31",
        "customer": ANN_BY_MAIL | {"name": "Ann"},
        "channel": "chat",
        "priority": "normal",
        "assigned_agent_id": "chris@shop.example",
        "team": "delivery",
        "tags": ["delivery", "late"],
        "context": [{"type": "chatwoot", "conversationId": 12, "customAttributes": {"order": "4711"}}],
        "status": "resolved",
    }
    assert said(case) == [
        ("customer", "public", "Where is my parcel?", "14 22:13:20"),
        ("agent", "public", "It is on its way.", "14 22:15:00"),
        ("agent", "internal", "She is impatient", "14 22:15:50"),
        ("bot", "public", "Anything else?", "14 22:16:40"),
        ("customer", "public", "(no text)", "14 22:17:30"),
    ]
    assert [each.author_id for each in case.messages] == [None, *2 * ["chris@shop.example"], None, None]
    assert case.messages[0].attachment_uri == "https://chat.example/rails/blob/photo.png"
    assert (case.messages[4].attachments, case.messages[4].attachment_uri) == (["label.txt"], None)
    assert [file.path for file in case.attachments] == ["label.txt"]
    assert f"{case.closed_at:%T}" == "22:18:20"


def test_case_of_which_little_is_known():
    """A state of one's own is open, an id that does not fit is a number, the subject of a mail is the case's."""
    case = parse_case(sample("zammad")[1], zammad.map_ticket)
    assert (case.subject, case.status, case.priority) == ("Zammad ticket 22008", "open", "normal")
    assert (case.assigned_agent_id, case.customer_id, case.channel) == (None, "zammad-11", "web")
    case = parse_case(sample("chatwoot")[1], chatwoot.map_conversation)
    assert (case.subject, case.status, case.channel) == ("An invoice", "pending", "email")
    assert case.customer_id == "chatwoot-32"


@each_row(
    ("state", "until"),
    [
        *((state, "2026-12-01 08:00") for state in ("pending reminder", "Pending Reminder")),
        *((state, None) for state in ("pending close", "open", "closed")),
    ],
)
def test_zammad_ticket_with_a_reminder_is_snoozed(state, until):
    """Zammad keeps the time in other states, too. A ticket that would close by itself is only pending."""
    ticket = sample("zammad")[1] | {"state": state, "pending_time": "2026-12-01T08:00:00.000Z"}
    case = parse_case(ticket, zammad.map_ticket)
    assert (case.snoozed_until and f"{case.snoozed_until:%F %H:%M}") == until


@each_row(
    ("status", "sent", "until"),
    [
        ("snoozed", "2026-12-01T08:00:00Z", "2026-12-01 08:00"),
        ("snoozed", 1796112000, "2026-12-01 08:00"),
        ("snoozed", None, None),  # until the next answer
        ("open", "2026-12-01T08:00:00Z", None),
        ("pending", "2026-12-01T08:00:00Z", None),
    ],
)
def test_snoozed_chatwoot_conversation_is_snoozed(status, sent, until):
    """Other conversations may still have the time."""
    conversation = sample("chatwoot")[1] | {"status": status, "snoozed_until": sent}
    case = parse_case(conversation, chatwoot.map_conversation)
    assert case.status == ("open" if status == "open" else "pending")
    assert (case.snoozed_until and f"{case.snoozed_until:%F %H:%M}") == until


OPEN = {"id": 1, "state": "open", "status": "open"}


@each_row("mapper", [zammad.map_ticket, chatwoot.map_conversation])
@each_row(
    "document",
    [
        *({}, [], "x", None, {"id": 1}),
        *(OPEN | {"articles": each, "messages": each} for each in (5, ["x"])),
        OPEN | {"meta": 5, "articles": [{}], "messages": [{}]},
        *(OPEN | {"created_at": at} for at in ("yesterday", 1e300, "0001-01-01T00:00:00+14:00")),
    ],
)
def test_document_of_another_form_is_refused_with_a_reason(mapper, document):
    """It does not end the import."""
    with pytest.raises(ValidationFailed):
        parse_case(document, mapper)


ARTICLE = {"id": 3, "created_at": "2024-01-01T00:00:00Z", "sender": "Customer", "body": "Hello"}
LATER, ROBOT = ARTICLE | {"created_at": "then"}, ARTICLE | {"sender": "Robot"}
FILES = ARTICLE | {"attachments": [{"path": "a"}, {"path": 5}]}
MESSAGE = {"id": 3, "created_at": 1_700_000_000, "message_type": 0, "content": "Hello"}
LAST, MAIL = MESSAGE | {"created_at": 1e300}, MESSAGE | {"content_attributes": {"email": []}}
NO_LIST = MESSAGE | {"attachments": {"path": "a"}}


MUST_BE_TIME = "must be a time, such as 2026-05-12T09:00:00Z"


@each_row(
    ("mapper", "document", "place", "rule"),
    [
        (zammad.map_ticket, {"state": None}, "state", "is missing"),
        (zammad.map_ticket, {"id": ""}, "id", "is missing"),
        (zammad.map_ticket, {"id": [1]}, "id", "must be a text or a whole number"),
        (zammad.map_ticket, {"articles": 5}, "articles", "must be a list"),
        (zammad.map_ticket, {"articles": [ARTICLE, "x"]}, "articles.1", "must be an object"),
        (zammad.map_ticket, {"articles": [ARTICLE | {"created_at": None}]}, "articles.0.created_at", "is missing"),
        (zammad.map_ticket, {"articles": [ARTICLE, LATER]}, "articles.1.created_at", MUST_BE_TIME),
        (
            zammad.map_ticket,
            {"articles": [ROBOT]},
            "articles.0.sender",
            "must be one of customer, agent, system, 1, 2, 3",
        ),
        (zammad.map_ticket, {"articles": [FILES]}, "articles.0.attachments.1.path", "must be a text"),
        (chatwoot.map_conversation, {"status": None}, "status", "is missing"),
        (chatwoot.map_conversation, {"status": "x"}, "status", "must be one of open, pending, snoozed, resolved"),
        (chatwoot.map_conversation, {"meta": {"sender": "Ann"}}, "meta.sender", "must be an object"),
        (chatwoot.map_conversation, {"messages": [MESSAGE | {"id": None}]}, "messages.0.id", "is missing"),
        (chatwoot.map_conversation, {"messages": [MESSAGE, LAST]}, "messages.1.created_at", MUST_BE_TIME),
        (chatwoot.map_conversation, {"messages": [MAIL, NO_LIST]}, "messages.1.attachments", "must be a list"),
    ],
)
def test_what_is_wrong_in_an_export_is_named_with_its_place(mapper, document, place, rule):
    """In plain words, and with the names of the other system."""
    with pytest.raises(ValidationFailed) as refused:
        parse_case(OPEN | document, mapper)
    assert str(refused.value) == f"The case is not in the form of the export: `{place}` {rule}."
    assert [(each.field, each.message) for each in refused.value.errors] == [(place, rule)]


@pytest.mark.parametrize("failure", [IndexError, OverflowError, RecursionError])
def test_document_that_a_mapper_can_not_read_is_refused(failure):
    """Whatever part of it is not as expected, such as JSON within a text that is nested too deeply."""

    def fail(_document):
        raise failure

    with pytest.raises(ValidationFailed, match=r"^The case is not in the form of the export\.$"):
        parse_case({}, fail)


def test_unknown_fields_are_refused():
    """A misspelled field would be lost. An external id is required. Names may be in snake_case, as in requests."""
    new = {"externalId": "1", "subject": "A", "channel": "email"}
    for fields in ({"mesages": []}, {"messages": [{"authorType": "agent", "message": "a", "text": "b"}]}):
        with pytest.raises(ValidationFailed) as refused:
            parse_case(new | fields, lambda document: document)
        assert refused.value.errors[0].message == "Extra inputs are not permitted"
    with pytest.raises(ValidationFailed) as refused:
        parse_case({"subject": "A", "channel": "email"}, lambda document: document)
    assert [each.field for each in refused.value.errors] == ["externalId"]
    message = {"author_type": "agent", "message": "a", "sent_at": "2024-01-01T00:00:00Z"}
    renamed = {"external_id": "1", "subject": "A", "channel": "email", "messages": [message]}
    case = parse_case(renamed, lambda document: document)
    assert isinstance(case, ImportedCase)
    assert case.messages[0].sent_at.year == 2024

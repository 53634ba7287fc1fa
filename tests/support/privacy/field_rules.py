"""Rules of model fields: what analysts get of each, and what an erasure of the customer leaves of it.

A new field needs a row here: tests name the fields without one, and check what the service does against the rows.
"""

from typing import Literal, NamedTuple

from pydantic import BaseModel

from support_service.api.models.case_counts import CaseCount
from support_service.api.models.me import Me
from support_service.api.models.views import CountedView, SavedView, ViewPage
from support_service.cases.events import (
    CaseClosed,
    CaseOpened,
    CaseSlaBreached,
    CaseUpdated,
    PreviousOwner,
    PublishedCase,
)
from support_service.cases.model.case import (
    Attachment,
    Case,
    CaseLink,
    CaseMatch,
    CasePage,
    CaseSummary,
    ListedCase,
    Message,
    Viewer,
    Workload,
)
from support_service.macros.model import Macro
from support_service.sla.shown_clocks import ShownClock, ShownClocks

Analysts = Literal[
    "shown",
    "masked",  # `[masked]`, or `other`; a tag or a sentiment that is one word is shown
    "pseudonym",
    "hidden",  # null, empty or absent for analysts only
    "never sent",  # to analysts
    "parts",  # each field of the model in it has a rule of its own
]
Erasure = Literal[
    "kept",
    "overwritten",  # by `[erased]`, `other` or an empty text
    "deleted",  # null, empty, or gone with its row
    "nobody's data",  # says nothing about a customer
    "parts",
]


class Rule(NamedTuple):
    """The rule of a field."""

    analysts: Analysts
    erasure: Erasure


KEPT = Rule("shown", "kept")
NOBODYS = Rule("shown", "nobody's data")
INTERNAL = Rule("never sent", "nobody's data")  # excluded from JSON
PARTS = Rule("parts", "parts")
STAFF_EVENT = Rule("never sent", "kept")  # of an event that is published for other services

# A model has the rules of the models that it extends, too.
FIELD_RULES: dict[type[BaseModel], dict[str, Rule]] = {
    CaseSummary: {
        "id": KEPT,
        "subject": Rule("masked", "overwritten"),
        "description": Rule("masked", "deleted"),
        "customer_id": Rule("pseudonym", "deleted"),
        "status": KEPT,
        "priority": KEPT,
        "channel": Rule("masked", "overwritten"),
        "assigned_agent_id": KEPT,
        "team": KEPT,
        "context": Rule("masked", "deleted"),
        "tags": Rule("masked", "deleted"),
        "external_id": Rule("masked", "deleted"),
        "sent_at": KEPT,
        "created_at": KEPT,
        "updated_at": KEPT,
        "match": Rule("hidden", "deleted"),
        "sla_policy": INTERNAL,
        "viewers": PARTS,
        "synthetic": INTERNAL,
        "version": INTERNAL,
    },
    ListedCase: {
        "waiting_since": KEPT,
        "last_message_at": KEPT,
        "sla": PARTS,
        "clocks": INTERNAL,
    },
    Case: {
        "waiting_since": KEPT,
        "messages": PARTS,
        "more_messages": NOBODYS,
        "timeline": Rule("masked", "deleted"),
        "more_case_events": NOBODYS,
        "attachments": PARTS,
        "links": PARTS,
        "sla": PARTS,
        "timeline_sources": NOBODYS,
        "match": Rule("never sent", "deleted"),
        "timeline_epoch": INTERNAL,
    },
    CaseMatch: dict.fromkeys(("field", "snippet", "highlights"), Rule("hidden", "deleted")),
    Viewer: {"name": NOBODYS, "state": NOBODYS},
    Message: {
        "id": KEPT,
        "ticket_id": KEPT,
        "author_type": KEPT,
        "message": Rule("masked", "overwritten"),
        "attachment_uri": Rule("masked", "deleted"),
        "attachment_ids": KEPT,
        "sentiment": Rule("masked", "deleted"),
        "metadata": Rule("hidden", "deleted"),
        "visibility": KEPT,
        "external_id": Rule("masked", "deleted"),
        "sent_at": KEPT,
        "created_at": KEPT,
    },
    Attachment: {
        "id": KEPT,
        "ticket_id": KEPT,
        "filename": Rule("masked", "overwritten"),
        "content_type": Rule("masked", "overwritten"),
        "size_bytes": KEPT,
        "sha256": Rule("hidden", "overwritten"),
        "visibility": KEPT,
        "uri": Rule("hidden", "overwritten"),
        "created_at": KEPT,
        "staged_until": KEPT,
    },
    CaseLink: {"id": KEPT, "kind": KEPT, "case_id": KEPT, "created_at": KEPT},
    ShownClocks: {"first_response": PARTS, "next_response": PARTS, "resolution": PARTS},
    ShownClock: {"due_at": KEPT, "state": KEPT, "waiting": KEPT, "remaining": KEPT},
    CasePage: {"items": PARTS, "next_cursor": NOBODYS},
    CaseCount: {"count": NOBODYS, "more": NOBODYS},
    Workload: dict.fromkeys(("agent_id", "open", "pending", "resolved", "closed"), NOBODYS),
    Me: dict.fromkeys(("name", "role", "subject", "teams", "permissions"), NOBODYS),
    # Analysts get their own views. An erasure deletes the views that name the customer.
    SavedView: dict.fromkeys(("id", "owner", "team"), KEPT)
    | dict.fromkeys(("name", "query", "created_at", "updated_at"), Rule("shown", "deleted"))
    | {"version": INTERNAL},
    CountedView: {"count": NOBODYS, "more": NOBODYS},
    ViewPage: {"items": PARTS, "next_cursor": NOBODYS},
    Macro: dict.fromkeys(
        ("name", "text", "status", "tags", "created_at", "updated_at", "version"), Rule("never sent", "nobody's data")
    ),
    PublishedCase: {
        "match": Rule("never sent", "deleted"),
        "viewers": INTERNAL,
        "waiting_since": KEPT,
        "version": KEPT,
        "public_version": STAFF_EVENT,
    },
    PreviousOwner: {"assigned_agent_id": STAFF_EVENT, "team": STAFF_EVENT},
    CaseOpened: {"actor": STAFF_EVENT, "ticket": PARTS, "initial_message": PARTS},
    CaseUpdated: {
        "change_type": KEPT,
        "actor": STAFF_EVENT,
        "ticket": PARTS,
        "conversation": PARTS,
        "previous_status": STAFF_EVENT,
        "current_status": STAFF_EVENT,
        "attachment": PARTS,
        "link": PARTS,
        "visibility": STAFF_EVENT,
        "previous_owner": PARTS,
        "changed_fields": STAFF_EVENT,
    },
    CaseClosed: {"actor": STAFF_EVENT, "ticket": PARTS, "previous_status": STAFF_EVENT, "current_status": STAFF_EVENT},
    CaseSlaBreached: {"target": STAFF_EVENT, "due_at": STAFF_EVENT, "visibility": STAFF_EVENT, "ticket": PARTS},
}

# Members of a recorded change, and the fields that it may have in `changes`. An erasure deletes `changes` as a whole.
HISTORY_RULES: dict[str, Rule] = (
    {
        "at": KEPT,
        "actor": Rule("hidden", "kept"),
        "action": KEPT,
        "changes": PARTS,
    }
    | dict.fromkeys(
        (
            *("status", "priority", "assignedAgentId", "team", "attachmentId", "visibility", "attachmentVisibility"),
            *("linkId", "kind", "linkedCaseId", "target", "dueAt"),
        ),
        Rule("shown", "deleted"),
    )
    | {"tags": Rule("masked", "deleted"), "filename": Rule("hidden", "deleted")}
)


def rules_of(model: type[BaseModel]) -> dict[str, Rule]:
    """Return the rules of a model's fields, also those of the models that it extends."""
    found: dict[str, Rule] = {}
    for each in reversed(model.__mro__):
        found |= FIELD_RULES.get(each, {})
    return found

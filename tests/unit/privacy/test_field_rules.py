"""Each field of what is stored about a customer has a rule of privacy, and the service keeps to it."""

from typing import Annotated

import pydantic_core
import pytest
from pydantic import BaseModel

from support_service.api.case_document.own_entries import change_entries
from support_service.cases.case_erasure import erase_event
from support_service.cases.clocks.case_clocks import ShownClock
from support_service.cases.masking import MASKED_TEXT, Masker
from support_service.cases.model.case import Attachment, Case, CaseSummary, ListedCase
from support_service.cases.model.history import SHOWN_ACTIONS, RecordedChange
from support_service.cases.model.published import PAYLOAD_BY_EVENT_TYPE, PublishedCase
from support_service.core import personal
from support_service.core.domain.principals import Principal
from support_service.core.personal import FACT, rules_of
from support_service.desk.macro_models import Macro
from support_service.desk.view_models import SavedView
from support_service.events.broker.log import LogPlace, Position
from support_service.platform.database.tables import ERASED_TEXT, ERASURE, metadata
from support_service.platform.telemetry.instruments import OTHER
from support_service.stream.changes import parse_change
from tests.support.each import each_row
from tests.support.privacy.history_rules import HISTORY_RULES
from tests.support.privacy.samples import filled, models_in, trace

MASKER = Masker("key", ("email",))
MASKS = {MASKED_TEXT, OTHER}
LEFT = {"replaced": (ERASED_TEXT,), "replaced if unknown": (OTHER,), "emptied": ("", [])}
LEFT |= {"removed": (None,), "customer removed": (None,)}
ANALYST = Principal("analyst", "analyst")
CASE_MODELS = {*personal.models_in(CaseSummary, Macro, *PAYLOAD_BY_EVENT_TYPE.values())} - {PublishedCase}


class Trial(BaseModel):
    """A model with a new field that says nothing about privacy."""

    id: Annotated[str, FACT]
    language: str | None = None


def test_each_field_of_a_case_has_a_rule():
    """Also the fields of events, which wait in the database until they are published. One without a rule is named."""
    assert all(rules_of(model) for model in CASE_MODELS)
    with pytest.raises(TypeError, match=r"Trial\.language"):
        rules_of(Trial)


def test_each_recorded_field_that_a_history_shows_has_a_rule():
    shown = {field for action in SHOWN_ACTIONS.values() for view in (action.full, action.masked) for field in view}
    assert shown | {*RecordedChange._fields} == HISTORY_RULES.keys()


@pytest.mark.parametrize(
    ("model", "table"), [(SavedView, "views"), (Macro, "macros"), (ShownClock, "case_clocks")], ids=str
)
def test_fields_that_are_in_no_event_are_erased_as_their_columns(model, table):
    """What an erasure does to the columns is checked against their own rules."""
    columns = {column.name: column.info[ERASURE] for column in metadata.tables[table].c}
    rules = {name: rule.erasure.replace("removed", "deleted") for name, rule in rules_of(model).items()}
    same = rules.keys() & columns.keys()
    assert same
    assert {name: rules[name] for name in same} == {name: columns[name] for name in same}


def expect_as_ruled(model, document):
    """Check each member of a model that analysts get; the original had the trace of each field."""
    for name, rule in rules_of(model).items():
        was, field = trace(model.__name__, name), f"{model.__name__}.{name}"
        member = model.model_fields[name].serialization_alias or name
        value = document.get(member)
        assert (member in document) <= (rule.analyst != "never sent"), f"analysts get {field}"
        if rule.analyst == "parts":
            (part,) = models_in(model.model_fields[name].annotation)
            for each in value if isinstance(value, list) else [value]:
                expect_as_ruled(part, each)
        elif rule.analyst == "shown":
            assert was in str(value), f"analysts do not get {field}"
        else:
            assert was not in str(document), f"analysts get {field}"
        if rule.analyst in ("masked", "word", "known", "entries"):
            assert any(mask in str(value) for mask in MASKS), f"{field} is not masked"
        elif rule.analyst == "pseudonym":
            assert value == MASKER.pseudonym_of(was), f"{field} has no pseudonym"
        elif rule.analyst == "hidden":
            assert not value, f"{field} is not hidden"


@pytest.mark.parametrize("model", [CaseSummary, ListedCase, Case, Attachment])
def test_analysts_get_exactly_what_is_shown(model):
    """Every field of a case and its parts holds a text, which remains exactly where the rule says `shown`."""
    expect_as_ruled(model, MASKER.mask(filled(model)).model_dump(by_alias=True, warnings=False))


def test_analysts_get_exactly_the_shown_fields_of_a_history():
    """A recorded change has every field that any view shows, and one that none does."""
    names = [*HISTORY_RULES.keys() - {*RecordedChange._fields}, "unknown"]
    recorded = pydantic_core.to_json({name: [[trace("case", name)], None] for name in names}).decode()
    said = {name: trace("change", name) for name in ("at", "actor")}
    for action in SHOWN_ACTIONS:
        dated = change_entries([RecordedChange(**said, action=action, changes=recorded)], "masked", MASKER)
        ((_, entry),) = dated
        assert entry.keys() == {"type", "timestamp", "action", "changes", "origin"}
        for name, value in entry["changes"].items():
            kept, rule = trace("case", name) in str(value), HISTORY_RULES[name].analyst
            assert (rule, kept) in (("shown", True), ("word", False)), f"{name} of {action} is {value}"


def published_case():
    """Return a published case as JSON, with traces in the fields that may hold a text."""
    fields = filled(PublishedCase).model_dump(by_alias=True, warnings=False) | {"viewers": None}
    example = {"version": 1} | CaseSummary.model_config["json_schema_extra"]["examples"][0]
    try:
        CaseSummary.model_validate(fields)
    except pydantic_core.ValidationError as failure:
        for error in failure.errors():
            fields[error["loc"][0]] = example.get(error["loc"][0])
    return fields


def test_analysts_get_exactly_what_is_shown_of_a_published_case():
    """The stream of changes sends it from the event, without a read."""
    ticket, traced = published_case(), set()
    event = {"id": "e-1", "type": "support.case.opened.v1", "time": "2026-05-12T08:30:00Z"}
    event["data"] = {"actor": "actor 7700000", "ticket": ticket, "initialMessage": None}
    change = parse_change(Position("epoch", LogPlace(1)), pydantic_core.to_json(event))
    frame = change.frame_for(ANALYST, "masked", MASKER, change.owner).decode()
    assert "actor 7700000" not in frame
    for name, rule in rules_of(PublishedCase).items():
        member, was = PublishedCase.model_fields[name].serialization_alias or name, trace("PublishedCase", name)
        if was in str(ticket.get(member)):
            traced.add(name)
            assert (was in frame) == (rule.analyst == "shown"), f"PublishedCase.{name}"
    assert {"subject", "description", "customer_id", "channel", "external_id", "tags", "team"} <= traced


@each_row("payload", PAYLOAD_BY_EVENT_TYPE.values())
def test_erasure_leaves_exactly_what_is_kept_of_an_event(payload):
    """Events wait in the outbox and for webhooks: every field of an event holds a text."""
    data = filled(payload).model_dump(by_alias=True, warnings=False)
    erased = erase_event(pydantic_core.to_json({"data": data}).decode(), ("email",))
    expect_erased(payload, data, pydantic_core.from_json(erased)["data"])


def expect_erased(model, before, after):
    for name, rule in rules_of(model).items():
        was, field = trace(model.__name__, name), f"{model.__name__}.{name}"
        member = model.model_fields[name].serialization_alias or name
        value = after.get(member)
        if before.get(member) is None:
            continue  # not published
        if rule.erasure == "parts":
            (part,) = models_in(model.model_fields[name].annotation)
            for was, left in (
                zip(before[member], value, strict=True) if isinstance(value, list) else [(before[member], value)]
            ):
                expect_erased(part, was, left)
        elif rule.erasure in ("kept", "not personal"):
            assert was in str(value), f"an erasure removes {field}"
        else:
            assert was not in str(after), f"an erasure leaves {field}"
            assert value in LEFT[rule.erasure], f"{field} is {value!r}"


def test_erasure_leaves_nothing_unknown_of_an_event():
    """Another release may have written it, such as before a rollback."""
    event = pydantic_core.to_json({"data": {"changeType": "case.changed", "ticket": {"id": "1", "phone": "0901"}}})
    assert pydantic_core.from_json(erase_event(event.decode(), ()))["data"] == {
        "changeType": "case.changed",
        "ticket": {"id": "1", "phone": None},
    }

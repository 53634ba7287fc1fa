"""Variables of macros: what they are filled with, and what stays in the text."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from support_service.core.domain.macro_variables import (
    MAX_VALUE_LENGTH,
    VARIABLES,
    CaseValues,
    fill_variables,
    find_variables,
    has_variables_of_services,
    variable_in_braces,
)
from support_service.core.domain.references import references_by_service
from support_service.core.domain.upstream_services import SOURCES, UPSTREAM_SERVICES
from support_service.core.ids import is_valid_name
from support_service.desk.macro_models import MAX_TEXT_LENGTH, MacroName, MacroText
from tests.support.each import each_row

CASE = {"id": "case-1", "customerId": "CUS-1", "subject": "A parcel", "assignedAgentId": "agent-7"}
ORDER = {"type": "order", "orderId": "ORD-1"}
# The example of each source as an entry of the order.
ENTRIES = [
    {"type": source.kind, "timestamp": "2026-01-02", f"{source.kind}Id": source.example["id"]}
    | {member: source.example.get(field) for member, field in source.members.items()}
    | {"orderId": "ORD-1"}
    for source in SOURCES.values()
]
ENTRIES.append({"type": "order-event", "timestamp": "2026-01-03", "status": "an event has none"})
FILLED = {"customer.id": "CUS-1", "case.id": "case-1", "case.subject": "A parcel", "agent.id": "agent-7"}
FILLED |= {"order.id": "ORD-1"}
for each in SOURCES.values():
    FILLED |= {f"{each.kind}.{member}": each.example[each.members[member]] for member in each.variables}
EVERYTHING = " ".join(map(variable_in_braces, VARIABLES))
pieces = st.text(alphabet=st.sampled_from("{} .aorder\nđ$\\"), max_size=12)
literals = st.text(alphabet=st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=12)


def values(case=CASE, context=(ORDER,), entries=ENTRIES, **statuses):
    """Return the values of a case whose services are all fresh, but for the named services."""
    sources = {
        name: {"status": statuses.get(name, "fresh"), "ageSeconds": None, "reason": None} for name in UPSTREAM_SERVICES
    }
    return CaseValues(case, references_by_service(context), entries, sources)


def test_every_variable_is_filled():
    filled = fill_variables(EVERYTHING, values())
    assert filled.text == " ".join(FILLED.values())
    assert filled.unfilled == {}
    assert FILLED.keys() == VARIABLES.keys()


@each_row("status", ["stale", "unavailable", "off"])
@each_row("service", UPSTREAM_SERVICES)
def test_variable_of_a_service_that_is_not_current_stays(service, status):
    """It is reported with the state of its service, also if there is an entry; all other variables are filled."""
    filled = fill_variables(EVERYTHING, values(**{service: status}))
    waiting = {name for name, variable in VARIABLES.items() if variable.service == service}
    assert filled.unfilled == dict.fromkeys(waiting, status)
    assert filled.text == " ".join(
        variable_in_braces(name) if name in waiting else value for name, value in FILLED.items()
    )


def test_variable_without_a_value_stays():
    """As it is written, and is reported once. One that is no longer known has no value."""
    bare = {"id": "case-1", "customerId": None, "subject": "A parcel", "assignedAgentId": None}
    filled = fill_variables(EVERYTHING, values(bare, (), [], **dict.fromkeys(UPSTREAM_SERVICES, "none")))
    assert filled.unfilled == dict.fromkeys(VARIABLES.keys() - {"case.id", "case.subject"}, "none")
    text = "{{ case.id }} {{\torder.status\n}} {{order.status}} {{order.total}}"
    filled = fill_variables(text, values(order="stale"))
    assert filled.text == text.replace("{{ case.id }}", "case-1")
    assert filled.unfilled == {"order.status": "stale", "order.total": "none"}


@each_row("value", [None, "", " \n", True, 1.5, ["paid"], {"a": 1}, "x" * (MAX_VALUE_LENGTH + 1)])
def test_value_that_is_no_short_text_is_none(value):
    filled = fill_variables("{{order.status}}", values(entries=[ENTRIES[0] | {"status": value}]))
    assert (filled.text, filled.unfilled) == ("{{order.status}}", {"order.status": "none"})


def test_object_that_the_context_mentions_last_counts():
    """Neither the newest of all objects, nor another one if the last mentioned object is missing."""
    payments = [{"type": "payment", "id": each} for each in ("P-1", "P-2")]
    context = [ORDER, {"type": "order", "orderId": 2}, *payments]
    newer = "2026-02-01"
    entries = [
        {"type": "order", "timestamp": "2026-01-01", "orderId": 2, "status": "packed"},
        {"type": "order", "timestamp": newer, "orderId": "ORD-1", "status": "paid"},
        {"type": "payment", "timestamp": newer, "paymentId": "P-1", "orderId": "2", "status": "captured"},
    ]
    text = "{{order.id}} {{order.status}} {{payment.status}}"
    assert fill_variables(text, values(context=context, entries=entries)).text == "2 packed {{payment.status}}"


def test_newest_object_of_the_order_that_the_context_mentions_last_counts():
    """Payments and shipments without an id of their own belong to that order."""
    context = [ORDER, {"type": "order", "orderId": "ORD-2"}]
    shipment = {"type": "shipment", "shipmentId": "S", "orderId": "ORD-2"}
    entries = [
        shipment | {"timestamp": "2026-01-02", "status": "newest"},
        shipment | {"timestamp": "2026-01-01", "status": "older"},
        shipment | {"timestamp": None, "status": "of an unknown time"},
        shipment | {"timestamp": "2026-01-03", "status": "of another order", "orderId": "ORD-1"},
    ]
    assert fill_variables("{{shipment.status}}", values(context=context, entries=entries)).text == "newest"


@given(pieces.filter(lambda text: not find_variables(text)))
def test_text_without_variables_is_unchanged(text):
    assert fill_variables(text, values()) == fill_variables(text, CaseValues({}, {}))
    assert fill_variables(text, values()).text == text


@given(subject=st.lists(pieces | st.sampled_from([*map(variable_in_braces, VARIABLES), "{{", "}}"])).map("".join))
def test_values_are_inserted_as_they_are(subject):
    """Variables in a value are not filled, nor are variables that a value makes together with the text around it."""
    shown = subject if subject.strip() and len(subject) <= MAX_VALUE_LENGTH else "{{case.subject}}"
    text = "{{case.subject}}{{case.id}}{{{case.subject}}}{{order.{{case.subject}}status}}"
    filled = fill_variables(text, values(CASE | {"subject": subject}))
    assert filled.text == f"{shown}case-1{{{shown}}}{{{{order.{shown}status}}}}"


@given(st.lists(literals | st.sampled_from(list(VARIABLES)).map(variable_in_braces)))
def test_text_around_variables_is_kept(parts):
    expected = "".join(FILLED.get(part.strip("{}"), part) if part.startswith("{{") else part for part in parts)
    assert fill_variables("".join(parts), values()).text == expected


def test_only_variables_of_services_need_services():
    assert not has_variables_of_services("{{case.id}} {{order.id}} {{agent.id}} {{customer.id}} {{ no.variable }}")
    for name, variable in VARIABLES.items():
        assert has_variables_of_services(variable_in_braces(name)) == (variable.service is not None)


@each_row("name", ["order.total", "", "Order.status", "order. status", "order.status|upper", "x" * 300])
def test_unknown_variable_is_named(name):
    with pytest.raises(ValidationError) as refusal:
        TypeAdapter(MacroText).validate_python(f"{{{{case.id}}}} {{{{{name}}}}}")
    (error,) = refusal.value.errors()
    assert f"unknown variables: {variable_in_braces(name[:64])};" in error["msg"]
    assert "{{case.subject}}" in error["msg"]


@each_row("text", ["{{case.id", "{case.id}", "case.id}}", "{ {case.total} }", "{{a{b}}", "{", "x" * MAX_TEXT_LENGTH])
def test_other_braces_are_text(text):
    """A text has 1 to 32,768 characters."""
    assert TypeAdapter(MacroText).validate_python(text) == fill_variables(text, values()).text == text
    for refused in ("", "x" * (MAX_TEXT_LENGTH + 1), 7):
        with pytest.raises(ValidationError):
            TypeAdapter(MacroText).validate_python(refused)


@each_row(
    ("name", "valid"),
    [
        *((name, True) for name in ("late-parcel", "A", "7.b_c", "x" * 64)),
        *((name, False) for name in ("x" * 65, "", ".", "..", "-a", "a b", "a/b", "a\n", "a\0", "đ")),
    ],
)
def test_name_is_a_segment_of_a_path(name, valid):
    assert is_valid_name(name) is valid
    with nullcontext() if valid else pytest.raises(ValidationError):
        TypeAdapter(MacroName).validate_python(name)

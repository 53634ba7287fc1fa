"""What counts as an event, and what is refused."""

import json

import hypothesis
import pytest
from hypothesis import strategies

from support_service.core.errors import SupportError, ValidationFailed
from support_service.events import envelope
from tests.support.each import each_row
from tests.support.events.fixtures import shipment_event

TYPES = ["fulfillment.shipment.updated.v1", "order.status.changed.v1", "payment.status.changed.v1"]


def read(document):
    return envelope.parse_event(document if isinstance(document, bytes) else json.dumps(document).encode())


def test_structured_event_is_read_and_written_unchanged():
    event = read(shipment_event())
    assert (event.id, event.source, event.type) == ("e-1", "/fulfillment", TYPES[0])
    assert event.data.references() == [("order", "order-456"), ("shipment", "SHP-9"), ("tracking", "ZX123")]
    assert event.data.to_json_members() == shipment_event()["data"]
    assert event.happened_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert envelope.parse_event(envelope.serialize_event(event)) == event


@each_row(
    ("kind", "data", "sentence"),
    [
        (0, shipment_event()["data"], "Shipment ZX123 updated to In transit for order order-456"),
        (0, {"shipmentId": 9, "status": "DELIVERED"}, "Shipment 9 updated to Delivered"),
        (0, {"orderId": "o", "status": "In transit"}, "Shipment updated to In transit for order o"),
        (1, {"orderId": "o", "status": "out-for-delivery"}, "Order o updated to Out for delivery"),
        (2, {"paymentId": "p", "orderId": 7, "status": "captured"}, "Payment p updated to Captured for order 7"),
    ],
)
def test_each_event_type_has_a_sentence(kind, data, sentence):
    assert read(shipment_event() | {"type": TYPES[kind], "data": data}).data.message_text() == sentence


@pytest.mark.parametrize("nested", [None, "payload", "data"])
def test_plain_payload_is_an_event(nested):
    """It has `eventType`. Without an id its content identifies it, so that a repeat is recognized."""
    data = shipment_event()["data"]
    plain = {"eventType": TYPES[0]} | ({nested: data} if nested else data)
    event = read(plain)
    assert event.data.to_json_members() == data
    assert event.id == read(dict(reversed(plain.items()))).id
    assert event.id != read(plain | {"x": 1}).id
    assert read(plain | {"eventId": "e-7", "source": "/s"}).id == "e-7"


def test_id_of_a_plain_payload_is_not_that_of_the_event():
    """`id` identifies the object, and one `eventId` of two types is two events."""
    first, second = ({"eventType": TYPES[1], "id": 7, "orderId": "7", "status": status} for status in ("new", "paid"))
    assert read(first).id != read(second).id
    order = read(first | {"eventId": 1})
    other = read({"eventType": TYPES[2], "eventId": 1, "paymentId": "7", "status": "paid"})
    assert order.id == other.id
    assert order.source != other.source


@each_row("text", ["\udcff", "%FF", "%00", "\x7f"])
@each_row("name", ["id", "source", "type"])
def test_invalid_characters_are_refused(name, text):
    headers = {"ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/f", "ce-type": TYPES[0]}
    with pytest.raises(ValidationFailed):
        envelope.parse_binary(headers | {f"ce-{name}": f"a{text}"}, shipment_event()["data"])


SOME_ORDER = {"orderId": "o", "status": "x"}


@each_row(
    "change",
    [
        *({"id": value} for value in (None, "", 7, "x" * 256)),
        *({"source": None}, {"type": None}, {"type": ["a"]}, {"specversion": "0.3"}, {"specversion": None}),
        *({"time": value} for value in ("yesterday", "2026-01-01T00:00:00", 7)),
        {"Bad_Name": "x"},
        *({"data": value} for value in (None, "text", [], {}, {"status": "x"}, {"orderId": "o"})),
        *({"data": SOME_ORDER | {"orderId": value}} for value in (["o"], True, "o" * 201, "o\0")),
        *({"data": SOME_ORDER | {"occurredAt": value}} for value in ("then", 1767323045, "1767323045")),
    ],
)
def test_invalid_event_is_refused_with_the_broken_rule(change):
    with pytest.raises(ValidationFailed):
        read(shipment_event() | change)


@each_row("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b'{"a": NaN}', b" " * (5 << 20)])
def test_invalid_json_is_refused(body):
    """So is an event that is too large."""
    with pytest.raises(ValidationFailed):
        read(body)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
)


EMPTY, NO_NAME = "must be a string that is not empty", "is no attribute; attributes have lower-case letters and digits"


@each_row(
    ("change", "error"),
    [
        *(({"type": value}, f"type: {EMPTY}") for value in (None, 5)),
        *(({name: value}, f"{name}: {EMPTY}") for name, value in {"source": "", "id": 7, "subject": []}.items()),
        ({"specversion": "0.3"}, 'specversion: must be "1.0"'),
        ({"eventType": 5, "specversion": "1.0"}, f"eventType: {NO_NAME}"),
        ({"X" * 9000: ""}, f"{'X' * 64}: {NO_NAME}"),
    ],
)
def test_error_names_each_invalid_attribute(change, error):
    """With its rule. The length of the error is limited, also for a document of another kind with many members."""
    with pytest.raises(ValidationFailed) as refusal:
        read(shipment_event() | change)
    assert refusal.value.detail == f"The event is invalid: {error}"
    assert [f"{each.field}: {each.message}" for each in refusal.value.errors] == [error]
    with pytest.raises(ValidationFailed) as refusal:
        read(shipment_event() | {f"X{number}": "" for number in range(5000)})
    assert len(refusal.value.detail) < 16_000


@hypothesis.given(strategies.dictionaries(strategies.sampled_from([*shipment_event(), "eventType", "payload"]), JSON))
def test_any_json_is_an_event_or_refused(document):
    try:
        read(shipment_event() | document)
    except SupportError as refusal:
        assert refusal.code in ("invalid_event", "malformed_json")  # noqa: PT017


@each_row(
    ("kind", "data", "references"),
    [
        (0, {"trackingNumber": "ZX1"}, [("shipment", "ZX1"), ("tracking", "ZX1")]),
        (0, {"tracking_number": 7, "order_id": None}, [("shipment", "7"), ("tracking", "7")]),
        (0, {"order": {"id": 7}, "shipment": {"id": "s"}}, [("order", "7"), ("shipment", "s")]),
        (1, {"order_id": "o"}, [("order", "o")]),
        (1, {"order": {"id": "x"}, "orderId": "o"}, [("order", "o")]),
        (2, {"payment": {"id": "p"}, "orderId": None, "order": {"id": "o"}}, [("order", "o"), ("payment", "p")]),
    ],
)
def test_alternative_names_of_fields_and_types_are_accepted(kind, data, references):
    """Names in snake_case, objects with an id, types without a version. Contradicting values are refused."""
    with pytest.raises(ValidationFailed, match=r"data\.orderId"):
        read({"eventType": TYPES[1], "orderId": "a", "order_id": "b", "status": "x"})
    data["status"] = "late"
    versionless = TYPES[kind].removesuffix(".v1")
    for event in (
        read(shipment_event() | {"type": versionless, "data": data}),
        read({"eventType": versionless, "payload": data}),
        read({"event_type": TYPES[kind], "event_id": "7"} | data),
    ):
        assert (event.type, event.data.references()) == (TYPES[kind], references)
        assert envelope.parse_event(envelope.serialize_event(event)) == event


def test_type_with_and_without_a_version_has_one_source():
    """An event of an unknown type is read, whatever its data."""
    names = (TYPES[1], TYPES[1].removesuffix(".v1"))
    first, second = (read({"eventType": name, "eventId": 7, "orderId": 1, "status": "x"}) for name in names)
    assert (first.id, first.source) == (second.id, second.source)
    assert read(shipment_event() | {"type": "other.v1", "data": [1]}).data is None

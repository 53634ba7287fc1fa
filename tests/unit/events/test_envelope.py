"""What counts as an event, and what is refused."""

import json

import hypothesis
import pytest
from hypothesis import strategies

from support_service.core.errors import MalformedRequest, SupportError, ValidationFailed
from support_service.events import envelope
from tests.support.events.fixtures import shipment_event

TYPES = ["fulfillment.shipment.updated.v1", "order.status.changed.v1", "payment.status.changed.v1"]


def read(document):
    return envelope.parse(document if isinstance(document, bytes) else json.dumps(document).encode())


def test_a_structured_event():
    """All that the event says is read, and written again the same."""
    event = read(shipment_event())
    assert (event.id, event.source, event.type) == ("e-1", "/fulfillment", TYPES[0])
    assert event.data.references() == [("order", "order-456"), ("shipment", "SHP-9"), ("tracking", "ZX123")]
    assert event.data.fields() == shipment_event()["data"]
    assert event.happened_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert envelope.parse(envelope.serialize(event)) == event


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        (0, shipment_event()["data"], "Shipment ZX123 updated to In transit for order order-456"),
        (0, {"shipmentId": 9, "status": "DELIVERED"}, "Shipment 9 updated to Delivered"),
        (0, {"orderId": "o", "status": "In transit"}, "Shipment updated to In transit for order o"),
        (1, {"orderId": "o", "status": "out-for-delivery"}, "Order o updated to Out for delivery"),
        (2, {"paymentId": "p", "orderId": 7, "status": "captured"}, "Payment p updated to Captured for order 7"),
    ],
)
def test_what_a_case_is_told(kind, data, sentence):
    """Each event has a sentence for the conversation."""
    assert read(shipment_event() | {"type": TYPES[kind], "data": data}).data.sentence() == sentence


@pytest.mark.parametrize("nested", [None, "payload", "data"])
def test_a_plain_payload(nested):
    """A payload with `eventType` is an event too; without an id its content is one, so that a repeat is known."""
    data = shipment_event()["data"]
    plain = {"eventType": TYPES[0]} | ({nested: data} if nested else data)
    event = read(plain)
    assert event.data.fields() == data
    assert event.id == read(dict(reversed(plain.items()))).id
    assert event.id != read(plain | {"x": 1}).id
    assert read(plain | {"eventId": "e-7", "source": "/s"}).id == "e-7"


def test_plain_payloads_that_share_an_id():
    """An `id` is that of the thing, not of the event, and one `eventId` of two types is that of two events."""
    first, second = ({"eventType": TYPES[1], "id": 7, "orderId": "7", "status": status} for status in ("new", "paid"))
    assert read(first).id != read(second).id
    order = read(first | {"eventId": 1})
    other = read({"eventType": TYPES[2], "eventId": 1, "paymentId": "7", "status": "paid"})
    assert order.id == other.id
    assert order.source != other.source


@pytest.mark.parametrize("text", ["\udcff", "%FF", "%00", "\x7f"])
@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_what_no_text_may_have(name, text):
    """A byte in a header that is no UTF-8, which the server reads as a surrogate, or a control character is refused."""
    headers = {"ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/f", "ce-type": TYPES[0]}
    with pytest.raises(ValidationFailed):
        envelope.parse_binary(headers | {f"ce-{name}": f"a{text}"}, shipment_event()["data"])


def test_an_unknown_type_is_an_event():
    """An event of a type that nobody here knows is read, whatever its data."""
    assert read(shipment_event() | {"type": "other.v1", "data": [1]}).data is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"id": "x" * 256},
        {"source": None},
        {"type": None},
        {"type": ["a"]},
        {"specversion": "0.3"},
        {"specversion": None},
        {"time": "yesterday"},
        {"time": "2026-01-01T00:00:00"},
        {"time": 7},
        {"Bad_Name": "x"},
        {"data": None},
        {"data": "text"},
        {"data": []},
        {"data": {}},
        {"data": {"status": "x"}},
        {"data": {"orderId": "o"}},
        {"data": {"orderId": ["o"], "status": "x"}},
        {"data": {"orderId": True, "status": "x"}},
        {"data": {"orderId": "o" * 201, "status": "x"}},
        {"data": {"orderId": "o", "status": "x", "occurredAt": "then"}},
        {"data": {"orderId": "o", "status": "x", "occurredAt": 1767323045}},
        {"data": {"orderId": "o", "status": "x", "occurredAt": "1767323045"}},
        {"data": {"orderId": "o\0", "status": "x"}},
    ],
)
def test_what_is_no_event(change):
    """A rule that is broken is named."""
    with pytest.raises(ValidationFailed):
        read(shipment_event() | change)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b'{"a": NaN}', b" " * (5 << 20)])
def test_what_is_not_even_json(body):
    """Bytes that are not JSON, or too many, are refused without harm."""
    with pytest.raises(MalformedRequest):
        read(body)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": None}, "type: must be a string that is not empty"),
        ({"type": 5}, "type: must be a string that is not empty"),
        ({"source": ""}, "source: must be a string that is not empty"),
        ({"id": 7}, "id: must be a string that is not empty"),
        ({"subject": []}, "subject: must be a string that is not empty"),
        ({"specversion": "0.3"}, 'specversion: must be "1.0"'),
        (
            {"eventType": 5, "specversion": "1.0"},
            "eventType: is no attribute; attributes have lower-case letters and digits",
        ),
        ({"X" * 9000: ""}, f"{'X' * 64}: is no attribute; attributes have lower-case letters and digits"),
    ],
)
def test_a_wrong_attribute_is_named(change, error):
    """The error names each attribute and its rule in plain words, and its length is limited."""
    with pytest.raises(ValidationFailed) as refusal:
        read(shipment_event() | change)
    assert refusal.value.message == f"The event is invalid: {error}"
    assert [f"{each.field}: {each.message}" for each in refusal.value.fields] == [error]


def test_many_wrong_attributes_give_a_short_error():
    """A document of another kind, with many members, gets no longer answer than any other."""
    with pytest.raises(ValidationFailed) as refusal:
        read(shipment_event() | {f"X{number}": "" for number in range(5000)})
    assert len(refusal.value.message) < 16_000


@hypothesis.given(strategies.dictionaries(strategies.sampled_from([*shipment_event(), "eventType", "payload"]), JSON))
def test_any_document_is_read_or_refused(document):
    """Whatever JSON comes in, it is an event or a refusal, and never breaks the reader."""
    try:
        read(shipment_event() | document)
    except SupportError as refusal:
        assert refusal.code in ("invalid_event", "malformed_json")  # noqa: PT017


@pytest.mark.parametrize(
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
def test_what_senders_call_differently(kind, data, references):
    """Names in snake_case, objects with an id, and types without a version are read as what they stand for."""
    data["status"] = "late"
    versionless = TYPES[kind].removesuffix(".v1")
    for event in (
        read(shipment_event() | {"type": versionless, "data": data}),
        read({"eventType": versionless, "payload": data}),
        read({"event_type": TYPES[kind], "event_id": "7"} | data),
    ):
        assert (event.type, event.data.references()) == (TYPES[kind], references)
        assert envelope.parse(envelope.serialize(event)) == event


def test_one_event_with_and_without_its_version():
    """The plain payload's source has the type, and is the same with both names."""
    first, second = (
        {"eventType": name, "eventId": 7, "orderId": 1, "status": "x"} for name in (TYPES[1], TYPES[1][:-3])
    )
    assert (read(first).id, read(first).source) == (read(second).id, read(second).source)


def test_a_member_with_two_values():
    """A value under two names that differ is refused."""
    with pytest.raises(ValidationFailed, match=r"data\.orderId"):
        read({"eventType": TYPES[1], "orderId": "a", "order_id": "b", "status": "x"})

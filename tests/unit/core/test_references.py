"""References to the objects of each source are found in any context."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from support_service.core.domain.references import (
    ID_NAME_PAIRS,
    ID_NAMES_BY_KIND,
    MAX_REFERENCE_LENGTH,
    SourceReferences,
    reference_rows,
    references_by_service,
)
from support_service.core.domain.upstream_services import SERVICE_BY_KIND, UPSTREAM_SERVICES
from tests.support.each import each_row

ORDER = {"type": "order", "orderId": "ORD-1"}
LONG = "x" * MAX_REFERENCE_LENGTH


def by_order(order):
    return {name: SourceReferences(of_orders=(order,)) for name in UPSTREAM_SERVICES if name != "order"}


def by_id(**ids):
    return {service: SourceReferences(ids=(each,)) for service, each in ids.items()}


@each_row(
    ("context", "wanted"),
    [
        *((context, {}) for context in ([], [{"type": "note", "orderId": "ORD-1"}], [{"orderId": "ORD-1"}])),
        ([ORDER], by_order("ORD-1") | by_id(order="ORD-1")),
        (
            [ORDER, {"type": "payment", "paymentId": "PAY-1"}, {"type": "shipment", "shipmentId": "SHP-1"}],
            by_order("ORD-1") | by_id(order="ORD-1", payment="PAY-1", fulfillment="SHP-1"),
        ),
        ([{"type": "payment", "paymentId": "A", "id": "B"}], by_id(payment="A")),
        ([{"type": "shipment", "orderId": "ORD-9"}], {"fulfillment": SourceReferences(of_orders=("ORD-9",))}),
        ([{"type": "shipment", "id": "S", "orderId": "ORD-9"}], by_id(fulfillment="S")),
        *(([{"type": "payment", "id": sent}], by_id(payment=str(sent))) for sent in ("PAY-1", 4711, " PAY-1 ", LONG)),
        *(([{"type": "payment", "id": sent}], {}) for sent in ("  ", "", True, ["A"], f"{LONG}x")),
        (
            [{"type": "payment", "id": "B"}, {"type": "payment", "id": "A"}] * 2,
            {"payment": SourceReferences(ids=("B", "A"))},
        ),
        ([{"type": "payment"}, {"type": ["payment"], "id": "A"}], {}),
    ],
)
def test_references_are_grouped_by_service(context, wanted):
    """Each id is found once and in order; without an id the lookup is by order."""
    assert references_by_service(context) == wanted


def test_index_rows_hold_each_id_once():
    """The tracking number of a shipment is one, and that of another object is none."""
    context = [ORDER, ORDER, {"type": "shipment", "id": 7}, {"type": "payment", "orderId": "ORD-1"}]
    assert reference_rows(context) == [("order", "ORD-1"), ("shipment", "7")]
    for name in ("trackingNumber", "tracking_number"):
        assert reference_rows([{"type": "shipment", name: "VN1"}]) == [("tracking", "VN1")]
        assert reference_rows([{"type": "payment", name: "VN1"}]) == []


def test_index_rows_have_every_reference_of_an_object():
    """An object that has an id of its own may name ids of other services too, such as its order."""
    for kind in SERVICE_BY_KIND:
        entry = {"type": kind, "id": "own"}
        entry |= {camel: other for other, (camel, _) in ID_NAMES_BY_KIND.items() if other != kind}
        expected = {(other, "own" if other == kind else other) for other in SERVICE_BY_KIND}
        assert set(reference_rows([entry])) == expected
        assert reference_rows([entry | {"type": "note"}]) == []


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from(["type", "id", *chain(*ID_NAME_PAIRS)]), json)
typed = entries.flatmap(lambda entry: st.sampled_from([*SERVICE_BY_KIND]).map(lambda kind: entry | {"type": kind}))


@given(st.lists(entries | typed))
def test_references_of_arbitrary_json_fit_the_index(context):
    """For any JSON, each reference is a text that fits the index, and is found once."""
    for wanted in references_by_service(context).values():
        assert wanted.ids or wanted.of_orders
        assert len(set(wanted.ids)) == len(wanted.ids)
        assert all(0 < len(value) <= MAX_REFERENCE_LENGTH for value in wanted.ids + wanted.of_orders)
    rows = reference_rows(context)
    assert len(set(rows)) == len(rows)
    assert all(0 < len(value) <= MAX_REFERENCE_LENGTH for _, value in rows)

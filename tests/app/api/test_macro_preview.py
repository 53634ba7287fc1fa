"""The preview of a macro: its variables are filled from a case and its timeline, and nothing is changed."""

import pytest

from support_service.core.clock import utc_now
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.timeline import overrides
from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case, read_detail
from tests.support.service import own_client, service_of

client = own_client

pytestmark = pytest.mark.usefixtures("upstream_services")
CONTEXT = [{"type": "order", "orderId": "ORD-1"}]
TEXT = (
    "{{customer.id}}: order {{order.id}} is {{order.status}}, payment {{payment.status}}, "
    "parcel {{shipment.status}} ({{shipment.trackingNumber}}). {{case.subject}}, {{agent.id}}, {{case.id}}"
)


@pytest.fixture
def order_in_all_sources(orders, payments, shipments):
    """Add one order, with a payment and a shipment, to the upstream services."""
    orders.add("ORD-1", "order.created")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")


@pytest.fixture
async def case(client, order_in_all_sources):
    return await open_case(client, customerId="CUS-1", assignedAgentId="agent-7", context=CONTEXT)


async def save(client, text, name="late", **fields):
    async with client.put(f"/support/macros/{name}", json={"text": text, **fields}) as response:
        assert response.status in (200, 201), await response.text()


async def preview(client, case, name="late", **headers):
    return await expect_json(client.post(f"/support/cases/{case['id']}/macros/{name}/preview", headers=headers))


def unfilled(filled):
    """Return the reasons of a preview by variable."""
    return {each["variable"]: each["reason"] for each in filled["unfilled"]}


async def test_macro_is_filled_from_the_case_and_its_timeline(client, case):
    """The status and the tags come from the macro."""
    await save(client, TEXT, status="pending", tags=["delivery"])
    assert await preview(client, case) == {
        "text": "CUS-1: order ORD-1 is paid, payment captured, parcel in_transit (VN1). "
        f"A parcel, agent-7, {case['id']}",
        "status": "pending",
        "tags": ["delivery"],
        "unfilled": [],
    }


async def test_preview_changes_nothing(client, case, orders):
    """An Idempotency-Key is ignored: a repeat fills the text again. A timeline that was read before is used."""
    await save(client, "{{case.subject}} {{order.status}}", status="closed", tags=["gone"])
    before = await read_case(client, case)
    await read_detail(client, case)
    calls = len(orders.calls)
    assert (await preview(client, case, **{"Idempotency-Key": "k"}))["text"] == "A parcel paid"
    assert await read_case(client, case) == before
    await save(client, TEXT, "other")
    assert (await preview(client, case, "other"))["unfilled"] == []
    assert len(orders.calls) == calls
    await expect_json(client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}))
    assert (await preview(client, case, **{"Idempotency-Key": "k"}))["text"] == "B paid"


async def test_variable_of_an_unavailable_service_stays_in_the_text(client, case, payments, shipments):
    """All other variables are filled. The next preview asks the service again."""
    await save(client, TEXT)
    payments.fail_with(503)
    shipments.drop()
    filled = await preview(client, case)
    assert "is paid, payment {{payment.status}}, parcel {{shipment.status}} ({{shipment.tr" in filled["text"]
    names = ("payment.status", "shipment.status", "shipment.trackingNumber")
    assert unfilled(filled) == dict.fromkeys(names, "unavailable")
    assert [each["variable"] for each in filled["unfilled"]] == list(names)
    payments.heal()
    shipments.heal()
    assert unfilled(await preview(client, case)) == {}


async def test_stale_timeline_is_not_used_for_a_preview(make_client, order_in_all_sources, orders):
    """A timeline shows it as stale; a text for a customer must not have it."""
    client = await make_client(SUPPORT_TIMELINE_CACHE_TTL="0.001")
    case = await open_case(client, context=CONTEXT)
    await save(client, "{{order.id}} is {{ order.status }}, {{payment.status}}")
    assert (await preview(client, case))["text"] == "ORD-1 is paid, captured"
    orders.fail_with(500)
    filled = await preview(client, case)
    assert (filled["text"], unfilled(filled)) == ("ORD-1 is {{ order.status }}, captured", {"order.status": "stale"})


async def test_variable_of_a_service_that_is_off_stays_in_the_text(make_client, order_in_all_sources):
    """A service is off without a URL, or by an override."""
    client = await make_client(SUPPORT_PAYMENT_URL=None)
    case = await open_case(client, context=CONTEXT)
    await save(client, "{{order.status}} {{payment.status}} {{shipment.status}}")
    now = utc_now()
    async with unit_of_work(service_of(client).database, SYSTEM_ORIGIN) as work:
        override = overrides.Override("fulfillment", None, "", now.replace(year=now.year + 1), now)
        await overrides.set_override(work, override)
    await service_of(client).timeline.overrides.refresh()
    filled = await preview(client, case)
    assert filled["text"] == "paid {{payment.status}} {{shipment.status}}"
    assert unfilled(filled) == {"payment.status": "off", "shipment.status": "off"}


async def test_case_with_a_long_conversation_is_filled(client, case):
    """Its messages are not needed."""
    for _ in range(5):
        await add_message(client, case, "x" * 65_000)
    await save(client, "{{case.subject}}")
    assert (await preview(client, case))["text"] == "A parcel"


async def test_unknown_case_or_macro_is_not_found(client, case):
    """The case comes first."""
    await save(client, TEXT)
    for path, code in (
        (f"{case['id']}/macros/never", "macro_not_found"),
        (f"{case['id']}/macros/%00", "macro_not_found"),
        ("never/macros/late", "case_not_found"),
        ("never/macros/never", "case_not_found"),
    ):
        await expect_problem(client.post(f"/support/cases/{path}/preview"), 404, code)

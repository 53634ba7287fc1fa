"""`origin` of timeline entries: where each comes from, whatever it says of itself."""

from tests.support.calls import add_message, open_case, read_detail, refresh, upload
from tests.support.timeline.harness import CONTEXT as ORDER
from tests.support.timeline.harness import add_order

CLAIMS = [
    {"type": kind, "source": "payment-service", "origin": origin, "name": "claim"}
    for kind in ("payment", "conversation", "attachment", "case-event")
    for origin in ("payment", "case", None, ["order"])
]


def origins(detail):
    """Return (type, origin) of each entry that is not of the context, without duplicates."""
    return {(entry["type"], entry["origin"]) for entry in detail["timeline"] if entry["origin"] != "context"}


def claimed(detail):
    """Return the origins of the entries that claim another one."""
    return [entry["origin"] for entry in detail["timeline"] if entry.get("name") == "claim"]


async def test_every_entry_says_where_it_comes_from(client, sources):
    """In each answer with a timeline: of a read, from the cache, of a refresh, of opening and of closing."""
    add_order(sources)
    case = await open_case(client, context=[ORDER, *CLAIMS])
    assert (origins(case), claimed(case)) == ({("case-event", "case")}, ["context"] * len(CLAIMS))
    await add_message(client, case, "Hello")
    await upload(client, case, filename="a.txt")
    own = {("case-event", "case"), ("conversation", "case"), ("attachment", "case")}
    of_services = {("order", "order"), ("order-event", "order"), ("payment", "payment"), ("shipment", "fulfillment")}
    for read in (read_detail, read_detail, refresh):
        detail = await read(client, case)
        assert origins(detail) == own | of_services
        assert claimed(detail) == ["context"] * len(CLAIMS)
    async with client.post(f"/support/cases/{case['id']}/close", json={"message": "Bye"}) as response:
        closed = await response.json()
    assert (origins(closed), claimed(closed)) == (own, ["context"] * len(CLAIMS))
    assert closed["context"] == [ORDER, *CLAIMS]

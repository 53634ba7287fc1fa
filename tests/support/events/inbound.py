"""What becomes of inbound events."""

from tests.support.calls import GENEROUS_TIMEOUT, eventually, read_case

CONSUMED = "support_events_consumed_total"
SENTENCE = "Shipment ZX123 updated to In transit for order order-456"


async def consumed(metrics, number, within=3 * GENEROUS_TIMEOUT):
    """Wait until so many events came to an end; gives how many of each outcome."""

    def enough():
        counted = {}
        for name, labels, value in metrics.samples():
            if name == CONSUMED and value and labels["outcome"] != "failed":
                counted[labels["outcome"]] = counted.get(labels["outcome"], 0) + value
        return counted if sum(counted.values()) >= number else None

    return await eventually(enough, within)


async def messages(client, case):
    return [message["message"] for message in (await read_case(client, case))["messages"]]


async def wait_for_messages(client, case, expected):
    """Wait until a case's conversation says exactly this."""

    async def reached():
        return await messages(client, case) == expected

    await eventually(reached)


def about(kind, value):
    return {"context": {"type": kind, "id": value}}


async def database_answers():
    """A database that answers."""

"""A service that requires tokens, with a caller of each kind who follows the stream of changes."""

from dataclasses import replace

from support_service.platform.access.timings import AccessTimings
from support_service.stream.service import StreamTimings
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.events.fixtures import outbox_is_empty
from tests.support.service import service_of
from tests.support.stream import follow
from tests.support.timings import PATIENT_REDIS, patient_events, patient_timings

MESSAGE = {"authorType": "customer", "message": "Where is it?"}


def quick(log=PATIENT_REDIS, **stream):
    """Return timings with frequent checks of callers, and changed timings of the log of events and of the stream."""
    return patient_timings(
        stream=replace(StreamTimings(access_interval=0.02, replay_retry=0.02), **stream),
        access=AccessTimings(token_file_check_interval=0.02),
        events=patient_events(log=log),
    )


class Desk:
    """A service that requires tokens, and its callers."""

    def __init__(self, client, tokens):
        self.client = client
        self.tokens = tokens

    def follow(self, name, **options):
        return follow(self.client, self.tokens[name], **options)

    async def send(self, method, path, name="supervisor", status=(200, 201, 204), headers=(), **sent):
        headers = {"Authorization": f"Bearer {self.tokens[name]}", **dict(headers)}
        async with self.client.request(method, path, headers=headers, **sent) as response:
            assert response.status in status, await response.text()
            return await response.json() if response.content_length else None

    async def open_case(self, **fields):
        return await self.send("POST", "/support/cases", json={"subject": "A parcel", "channel": "email"} | fields)

    async def change(self, case, **fields):
        await self.send("PATCH", f"/support/cases/{case['id']}", json=fields)

    async def publish_all(self):
        """Wait until every change was published: a stream that is opened then gets none of them."""
        await eventually(lambda: outbox_is_empty(service_of(self.client).database))

    async def add(self, case, name="supervisor", **message):
        return await self.send("POST", f"/support/cases/{case['id']}/messages", name, json=MESSAGE | message)


async def open_desk(make_client, token_file, timings=None, **environment):
    """Start a service with a caller of each kind."""
    tokens = {
        "supervisor": write_token(token_file, "supervisor", role="supervisor"),
        "lan": write_token(token_file, "lan", role="agent", subject="agent-1", teams=["returns"]),
        "minh": write_token(token_file, "minh", role="agent", subject="agent-2", teams=["billing"]),
        "analyst": write_token(token_file, "analyst", role="analyst"),
        "ann": write_token(token_file, "ann", role="customer", subject="customer-1"),
        "bob": write_token(token_file, "bob", role="customer", subject="customer-2"),
        "service": write_token(token_file, "shop", role="service"),
    }
    access = {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(token_file)}
    return Desk(await make_client(timings=timings or quick(), **access, **environment), tokens)

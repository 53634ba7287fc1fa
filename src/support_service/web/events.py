"""Events of other services, by HTTP, and the description of both directions."""

from typing import Literal

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, Field

from support_service.cases.model import Wire
from support_service.errors import TooLarge, UnsupportedType
from support_service.events import envelope
from support_service.events.incoming import OrderStatusChanged, PaymentStatusChanged, ShipmentUpdated
from support_service.web import keys
from support_service.web.wire import read_json, reply

BATCHED = "application/cloudevents-batch+json"


class SentEvent(BaseModel):
    """A structured CloudEvent; in binary mode the attributes come as headers (`ce-id`, …), and `data` as the body."""

    specversion: Literal["1.0"]
    id: str = Field(max_length=envelope.MAX_ATTRIBUTE, description="with the source, what a repeat is known by")
    source: str = Field(max_length=envelope.MAX_ATTRIBUTE)
    type: str = Field(max_length=envelope.MAX_ATTRIBUTE, description="one that nobody here knows is ignored")
    time: AwareDatetime | None = None
    data: ShipmentUpdated | OrderStatusChanged | PaymentStatusChanged


class Accepted(Wire):
    """An event that was taken; it takes effect soon, and once however often it is sent."""

    id: str
    type: str


async def receive_event(request: web.Request) -> web.Response:
    """Take an event of another service: a CloudEvent, structured or binary, or a plain payload with `eventType`."""
    if request.content_type == BATCHED:
        raise UnsupportedType("unsupported_type", "Send events one at a time.")
    if (request.content_length or 0) > envelope.MAX_EVENT:
        raise TooLarge("body_too_large", f"An event may have at most {envelope.MAX_EVENT} bytes.")
    document = await read_json(request)
    if envelope.is_binary(request.headers):
        event = envelope.of_headers(request.headers, document)
    else:
        event = envelope.of_document(document)
    await request.app[keys.EVENTS].accept(event)
    return reply(Accepted(id=event.id, type=event.type), 202)

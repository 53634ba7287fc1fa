"""Inbound events by HTTP."""

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from support_service.api.models.service import Accepted
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import post
from support_service.api.routing.route import DATABASE_PROBLEMS, JSON, Permission, Tag
from support_service.cases.model.case import example_config
from support_service.core.errors import problem
from support_service.events import envelope
from support_service.events.inbound_events import (
    TYPE_BY_NAME,
    OrderStatusChanged,
    PaymentStatusChanged,
    ShipmentUpdated,
)
from support_service.guard.json_body import media_type, read_json

TAG = Tag("events", "Inbound events by HTTP.")

Attribute = Annotated[str, Field(min_length=1, max_length=envelope.MAX_ATTRIBUTE_LENGTH)]
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"


class CloudEventAttributes(BaseModel):
    """Attributes of every CloudEvent; in binary mode they are headers (`ce-id`, …), and `data` is the body."""

    # These models only document the format: requests are parsed by envelope.py.
    model_config = ConfigDict(defer_build=True)

    specversion: Literal["1.0"] = "1.0"
    id: Attribute = Field(description="identifies the event together with the source; repeats have the same id")
    source: Attribute = Field(description="the service that sent the event")
    time: AwareDatetime | None = Field(None, description="when it was sent")


class ShipmentEvent(CloudEventAttributes):
    """A shipment has a new status."""

    type: Literal["fulfillment.shipment.updated.v1"]
    data: ShipmentUpdated


class OrderEvent(CloudEventAttributes):
    """An order has a new status."""

    type: Literal["order.status.changed.v1"]
    data: OrderStatusChanged


class PaymentEvent(CloudEventAttributes):
    """A payment has a new status."""

    type: Literal["payment.status.changed.v1"]
    data: PaymentStatusChanged


class OtherEvent(CloudEventAttributes):
    """An event of any other type; it is accepted and ignored."""

    type: Attribute = Field(json_schema_extra={"not": {"enum": [*TYPE_BY_NAME]}})
    data: Any = None


class SentEvent(RootModel[ShipmentEvent | OrderEvent | PaymentEvent | OtherEvent]):
    """A structured CloudEvent."""

    model_config = ConfigDict(defer_build=True) | example_config(
        {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/fulfillment",
            "type": "fulfillment.shipment.updated.v1",
            "time": "2026-05-12T09:00:00Z",
            "data": {
                "orderId": "ORD-1001",
                "shipmentId": "SHP-1001",
                "trackingNumber": "ZX123",
                "status": "in_transit",
            },
        }
    )


@post(
    "/support/events",
    access=Permission("events:send", {"supervisor": "all", "service": "all"}),
    body=SentEvent,
    body_media_types=(envelope.STRUCTURED_MEDIA_TYPE, JSON),
    status=202,
    problems=(*DATABASE_PROBLEMS, "events_busy", "invalid_event"),
)
async def receive_event(call: Call, request: web.Request) -> Reply[Accepted]:
    """Receive an event of another service.

    The body is a CloudEvent or the plain payload of older senders. A CloudEvent is structured as described, or binary:
    its attributes as headers `ce-id`, `ce-source`, …, and `data` as the body. The plain payload has `eventType`,
    optionally `eventId`, and the data in the same object. It is applied soon, and only once if it is sent repeatedly.
    Each open case that references the order, payment or shipment gets a message of a bot. `.v1` at the end of the type
    may be left out, names in the data may be in snake_case, and `order: {id}` is read as `orderId`. An event of an
    unknown type is accepted with `ignored: true`. /asyncapi.json describes every event.
    """
    if media_type(request) == BATCH_MEDIA_TYPE:
        raise problem("unsupported_type", "Send events one at a time.")
    if (request.content_length or 0) > envelope.MAX_EVENT_BYTES:
        raise problem("body_too_large", f"An event may have at most {envelope.MAX_EVENT_BYTES} bytes.")
    document = await read_json(request)
    if envelope.is_binary_mode(request.headers):
        event = envelope.parse_binary(request.headers, document)
    else:
        event = envelope.parse_document(document)
    await call.service.consumer.accept_event(event)
    return Reply(Accepted(id=event.id, type=event.type, ignored=event.data is None))

"""Models of inbound events: their data, the references that match cases, and the message added to a case. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from support_service.core.domain.references import MAX_REFERENCE_LENGTH
from support_service.core.domain.upstream_services import SERVICE_BY_KIND


def _number_to_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and moment.astimezone(UTC)


def _check_rfc3339(value: object) -> object:
    if value is not None and not (isinstance(value, str) and "-" in value[1:]):  # pydantic accepts Unix timestamps too
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-05-12T09:00:00Z")
    return value


ReferenceId = Annotated[
    str,
    BeforeValidator(_number_to_text, json_schema_input_type=str | float),
    Field(min_length=1, max_length=MAX_REFERENCE_LENGTH),
]
OptionalTime = Annotated[
    AwareDatetime | None,
    BeforeValidator(_check_rfc3339, json_schema_input_type=AwareDatetime | None),
    AfterValidator(_in_utc),
]
StatusText = Annotated[str, Field(min_length=1, max_length=64)]


class InboundData(BaseModel):
    """Base of the data of inbound events. Unknown fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", validate_by_name=False)
    TYPE: ClassVar[str]

    status: StatusText
    occurred_at: OptionalTime = Field(None, description="when it happened; default: the time of the event")

    @model_validator(mode="before")
    @classmethod
    def _move_ids_of_objects(cls, sent: object) -> object:
        """Read `order: {id}` as `orderId`, and so for payments and shipments; a null counts as missing."""
        if not isinstance(sent, dict):
            return sent
        ids = {f"{kind}Id": found.get("id") for kind in SERVICE_BY_KIND if isinstance(found := sent.get(kind), dict)}
        return ids | {name: value for name, value in sent.items() if value is not None}

    def references(self) -> list[tuple[str, str]]:
        """Return a (kind, value) pair for each order, payment or shipment that a case may reference."""
        raise NotImplementedError

    def message_text(self) -> str:
        """Return the text of the message that is added to matching cases."""
        raise NotImplementedError

    def to_json_members(self) -> dict[str, Any]:
        """Return the data as JSON values with camelCase keys, without null fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ShipmentUpdated(InboundData):
    """A shipment has a new status; the event has an order id, a shipment id or a tracking number, or several."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": ["string", "number"]}}}
                for name in ("orderId", "shipmentId", "trackingNumber")
            ]
        }
    )
    TYPE = "fulfillment.shipment.updated.v1"

    order_id: ReferenceId | None = None
    shipment_id: ReferenceId | None = None
    tracking_number: ReferenceId | None = None
    carrier: Annotated[str, Field(max_length=MAX_REFERENCE_LENGTH)] | None = None

    @model_validator(mode="after")
    def _check_has_reference(self) -> Self:
        if not (self.order_id or self.shipment_id or self.tracking_number):
            raise ValueError("orderId, shipmentId or trackingNumber must be given")
        return self

    def references(self) -> list[tuple[str, str]]:
        # A case may have the tracking number as the id of its shipment.
        shipment = self.shipment_id or self.tracking_number
        return _non_empty_references(order=self.order_id, shipment=shipment, tracking=self.tracking_number)

    def message_text(self) -> str:
        what = self.tracking_number or self.shipment_id
        status, order = _readable_status(self.status), _of_order_phrase(self.order_id)
        return f"Shipment{f' {what}' if what else ''} updated to {status}{order}"


class OrderStatusChanged(InboundData):
    """An order has a new status."""

    TYPE = "order.status.changed.v1"

    order_id: ReferenceId

    def references(self) -> list[tuple[str, str]]:
        return _non_empty_references(order=self.order_id)

    def message_text(self) -> str:
        return f"Order {self.order_id} updated to {_readable_status(self.status)}"


class PaymentStatusChanged(InboundData):
    """A payment has a new status."""

    TYPE = "payment.status.changed.v1"

    payment_id: ReferenceId
    order_id: ReferenceId | None = None
    amount: ReferenceId | None = None

    def references(self) -> list[tuple[str, str]]:
        return _non_empty_references(order=self.order_id, payment=self.payment_id)

    def message_text(self) -> str:
        return f"Payment {self.payment_id} updated to {_readable_status(self.status)}{_of_order_phrase(self.order_id)}"


DATA_MODELS: tuple[type[InboundData], ...] = (ShipmentUpdated, OrderStatusChanged, PaymentStatusChanged)
MODEL_BY_TYPE = {model.TYPE: model for model in DATA_MODELS}
TYPE_BY_NAME = {name: name for name in MODEL_BY_TYPE} | {name.removesuffix(".v1"): name for name in MODEL_BY_TYPE}
"""The type of each known name of an event: senders may leave out the version."""


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """A validated inbound event. `data` is None if its type is unknown.

    `trace` has the attributes `traceparent` and `tracestate` of the distributed tracing extension, if there are any.
    """

    id: str
    source: str
    type: str
    time: datetime
    data: InboundData | None
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def happened_at(self) -> datetime:
        """The time of the occurrence according to the sender: the data's `occurredAt`, or else the event's time."""
        return (self.data and self.data.occurred_at) or self.time


def _non_empty_references(**values: str | None) -> list[tuple[str, str]]:
    return [(kind, value) for kind, value in values.items() if value]


def _readable_status(status: str) -> str:
    """Return a status in readable form: `in_transit` becomes `In transit`."""
    words = status.replace("_", " ").replace("-", " ").strip() or status
    words = words.lower() if words.isupper() else words
    return words[:1].upper() + words[1:]


def _of_order_phrase(order_id: str | None) -> str:
    return f" for order {order_id}" if order_id else ""

"""The models of requests and answers, in camelCase on the wire."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Base of the models; an answer can be read from a row."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class NewMessage(Model):
    """A message as a client sends it."""

    author_type: Literal["customer", "agent", "system"]
    message: str = Field(min_length=1, max_length=20_000)
    visibility: Literal["public", "internal"] = "public"


class OrderReference(Model):
    """An order that a case is about."""

    type: Literal["order"]
    order_id: int


class PaymentReference(Model):
    """A payment that a case is about."""

    type: Literal["payment"]
    payment_id: int


class ShipmentReference(Model):
    """A shipment that a case is about."""

    type: Literal["shipment"]
    shipment_id: int


Reference = OrderReference | PaymentReference | ShipmentReference


class NewCase(Model):
    """A case as a client opens it."""

    subject: str = Field(min_length=1, max_length=300)
    description: str = Field(max_length=20_000)
    customer_id: str = Field(min_length=1, max_length=200)
    channel: Literal["email", "chat", "phone", "web"] = "web"
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    context: list[Reference] = Field(default_factory=list, max_length=100)
    tags: list[str] = Field(default_factory=list, max_length=50)
    initial_message: NewMessage | None = None


class Message(NewMessage):
    """A stored message."""

    id: UUID
    case_id: UUID = Field(serialization_alias="ticketId")
    created_at: datetime


class Attachment(Model):
    """An uploaded file."""

    id: UUID
    case_id: UUID = Field(serialization_alias="ticketId")
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class SourceStatus(Model):
    """Whether an upstream service contributed to a timeline."""

    status: Literal["fresh", "cached", "unavailable", "none"]
    reason: str | None = None


class Case(Model):
    """A case with its messages and files, and with its timeline where that was requested."""

    id: UUID
    subject: str
    description: str
    customer_id: str
    status: str
    priority: str
    channel: str
    context: list[dict[str, Any]]
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    messages: list[Message]
    attachments: list[Attachment]
    timeline: list[dict[str, Any]] = Field(default_factory=list)
    timeline_sources: dict[str, SourceStatus] = Field(default_factory=dict)

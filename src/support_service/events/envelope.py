"""Parser of inbound CloudEvents 1.0 (structured or binary), and of the plain `eventType` payload of older senders."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import pydantic_core
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.spec import SPECVERSION_V1_0
from cloudevents.core.v1.event import OPTIONAL_ATTRIBUTES, REQUIRED_ATTRIBUTES, CloudEvent
from pydantic import ValidationError

from support_service.core.clock import utc_now
from support_service.core.errors import MAX_FIELD_ERRORS, FieldError, SupportError, field_errors, problem
from support_service.core.json_input import with_camel_case_names
from support_service.events.inbound_events import MODEL_BY_TYPE, TYPE_BY_NAME, InboundData, InboundEvent
from support_service.platform.telemetry.traces import propagation_headers

MAX_EVENT_BYTES = 256 * 1024  # bytes
MAX_ATTRIBUTE_LENGTH = 255  # characters of an event's id, source and type: the size of the `inbound_events` columns
MAX_ATTRIBUTE_NAME_LENGTH = 64  # characters of an unknown attribute's name that an error shows
HEADER_PREFIX = "ce-"
STRUCTURED_MEDIA_TYPE = "application/cloudevents+json"
TRACE_ATTRIBUTES = ("traceparent", "tracestate")
MAX_TRACE_ATTRIBUTE_LENGTH = 512  # characters; W3C asks to propagate at least as many of a tracestate
ATTRIBUTE_BY_PLAIN_NAME = {"event_type": "eventType", "event_id": "eventId"}
PLAIN_SOURCE = "urn:support-service:plain"  # source of plain payloads without one


def parse_event(body: bytes) -> InboundEvent:
    """Parse an event from a stream: a structured CloudEvent or a plain payload.

    Raises ValidationFailed if the body exceeds MAX_EVENT_BYTES or is not JSON, and for an invalid event.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise problem(
            "event_too_large", f"An event may have at most {MAX_EVENT_BYTES} bytes; this one has {len(body)}."
        )
    try:
        document = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as failure:
        raise problem("malformed_json", f"The event is not JSON: {failure}.") from None
    if b"\\u0000" in body:
        raise problem("invalid_event", "The event contains a NUL character, which no text may contain.")
    return parse_document(document)


def parse_document(document: object) -> InboundEvent:
    """Parse an event from a JSON document that holds both attributes and data. Raises ValidationFailed."""
    if not isinstance(document, dict):
        raise problem("invalid_event", "An event must be a JSON object.")
    if "specversion" not in document:
        plain = {str(ATTRIBUTE_BY_PLAIN_NAME.get(name, name)): value for name, value in document.items()}
        if "eventType" in plain:
            return _parse_plain(plain)
    attributes = {name: value for name, value in document.items() if name not in ("data", "data_base64")}
    return _validated_event(attributes, document.get("data"))


def is_binary_mode(headers: Mapping[str, str]) -> bool:
    """Return True if the request carries the event's attributes in `ce-` headers."""
    return any(name.lower().startswith(HEADER_PREFIX) for name in headers)


def parse_binary(headers: Mapping[str, str], data: object) -> InboundEvent:
    """Parse an event with its attributes in headers (CloudEvents HTTP binding, binary mode)."""
    attributes = {
        name.lower().removeprefix(HEADER_PREFIX): unquote(value, errors="surrogateescape")
        for name, value in headers.items()
        if name.lower().startswith(HEADER_PREFIX)
    }
    return _validated_event(attributes, data)


def serialize_event(event: InboundEvent) -> bytes:
    """Serialize an event as a structured CloudEvent, for the stream, in its own trace or else in the current one."""
    return pydantic_core.to_json(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "time": event.time,
            "datacontenttype": "application/json",
            **(event.trace or propagation_headers()),
            "data": event.data.to_json_members() if event.data else None,
        }
    )


def _parse_plain(document: Mapping[str, Any]) -> InboundEvent:
    """Parse a plain payload: `{eventType, eventId?, …}` with the data beside them, or under `payload` or `data`.

    Without an `eventId`, the id is a hash of the content. An `id` is not used, because it may be the id of the order,
    payment or shipment. Senders may give the same number to events of two types, so the type is part of the source.
    """
    nested = next((document[name] for name in ("payload", "data") if isinstance(document.get(name), dict)), document)
    given = document.get("eventId")
    content = pydantic_core.to_json(dict(sorted(document.items())), inf_nan_mode="null")
    event_type = _type_with_version(document["eventType"])
    attributes = {
        "specversion": "1.0",
        "id": str(given) if given and isinstance(given, str | int) else hashlib.sha256(content).hexdigest(),
        "source": f"{document.get('source') or PLAIN_SOURCE}#{event_type}",
        "type": event_type,
    }
    return _validated_event(attributes, nested)


def _validated_event(attributes: dict[str, Any], data: object) -> InboundEvent:
    if not attributes.get("id"):  # cloudevents would generate an id, and each duplicate would count as new
        raise _invalid_event(FieldError("id", "must be given"))
    attributes["time"] = _parse_time(attributes.get("time"))
    try:
        checked = CloudEvent(attributes)
    except CloudEventValidationError as failure:
        wrong = list(failure.errors)[:MAX_FIELD_ERRORS]
        raise _invalid_event(
            *(FieldError(name[:MAX_ATTRIBUTE_NAME_LENGTH], _attribute_rule(name)) for name in wrong)
        ) from None
    for name in ("id", "source", "type"):
        if len(attributes[name]) > MAX_ATTRIBUTE_LENGTH:
            raise _invalid_event(FieldError(name, f"may have at most {MAX_ATTRIBUTE_LENGTH} characters"))
        if not attributes[name].isprintable():  # rejects surrogates too, which stand for bytes that are not UTF-8
            raise _invalid_event(FieldError(name, "may contain only printable characters"))
    event_type = _type_with_version(checked.get_type())
    model = MODEL_BY_TYPE.get(event_type)
    event_data = _validate_data(model, data) if model else None
    return InboundEvent(
        checked.get_id(),
        checked.get_source(),
        event_type,
        attributes["time"],
        event_data,
        _trace_attributes(attributes),
    )


def _trace_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of the distributed tracing extension. One that is malformed is ignored when it is used."""
    return {
        name: value
        for name in TRACE_ATTRIBUTES
        if isinstance(value := attributes.get(name), str)
        and len(value) <= MAX_TRACE_ATTRIBUTE_LENGTH
        and value.isprintable()
    }


def _attribute_rule(name: str) -> str:
    if name == "specversion":
        return f'must be "{SPECVERSION_V1_0}"'
    if name in (*REQUIRED_ATTRIBUTES, *OPTIONAL_ATTRIBUTES):
        return "must be a string that is not empty"
    return "is no attribute; attributes have lower-case letters and digits"


def _validate_data(model: type[InboundData], data: object) -> InboundData:
    renamed, errors = with_camel_case_names(model, data)
    if errors:
        raise _invalid_event(*(FieldError(f"data.{each.field}", each.message) for each in errors))
    try:
        return model.model_validate(renamed)
    except ValidationError as failure:
        raise _invalid_event(*field_errors(failure, "data")) from None


def _type_with_version(name: Any) -> Any:
    """Return the type that a known name without a version stands for, and any other value unchanged."""
    return TYPE_BY_NAME.get(name, name) if isinstance(name, str) else name


def _parse_time(value: object) -> datetime:
    """Parse an event's time; without one, return the current time. Raises ValidationFailed."""
    if value is None:
        return utc_now()
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _invalid_event(
            FieldError("time", "must be an RFC 3339 time with an offset, such as 2026-05-12T09:00:00Z")
        )
    return moment


def _invalid_event(*fields: FieldError) -> SupportError:
    named = "; ".join(f"{each.field}: {each.message}" for each in fields)
    return problem("invalid_event", f"The event is invalid: {named}", fields)

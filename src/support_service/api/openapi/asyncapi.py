"""AsyncAPI 3.0 document of inbound and outbound events, generated from their models."""

from functools import cache
from typing import Any

import pydantic_core
from pydantic.json_schema import models_json_schema

from support_service import __version__
from support_service.api.openapi.document import CONTACT
from support_service.api.openapi.schemas import NamedSchemas
from support_service.cases.model.published import EVENT_SOURCE, PAYLOAD_BY_EVENT_TYPE
from support_service.core.domain.upstream_services import SERVICE_BY_KIND, join_with_or
from support_service.events.envelope import STRUCTURED_MEDIA_TYPE
from support_service.events.inbound_events import DATA_MODELS

REFERENCE_TEMPLATE = "#/components/schemas/{model}"


@cache
def asyncapi_document(outbound: str, inbound: str) -> dict[str, Any]:
    """Return the AsyncAPI document. `outbound` and `inbound` are the names of the streams."""
    received = {model.TYPE: model for model in DATA_MODELS}
    _, definitions = models_json_schema(
        [(model, "validation") for model in received.values()]
        + [(model, "serialization") for model in PAYLOAD_BY_EVENT_TYPE.values()],
        ref_template=REFERENCE_TEMPLATE,
        schema_generator=NamedSchemas,
    )
    sent_messages = {kind: _message_object(kind, model, EVENT_SOURCE) for kind, model in PAYLOAD_BY_EVENT_TYPE.items()}
    received_messages = {kind: _message_object(kind, model, None) for kind, model in received.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "support-service events",
            "version": __version__,
            "description": "CloudEvents 1.0. Delivery is at least once, in order per case; repeats keep their id.",
            "contact": CONTACT,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": "events", "description": "Events of cases, and of what cases refer to."}],
        },
        "defaultContentType": STRUCTURED_MEDIA_TYPE,
        "channels": _channels(outbound, inbound, received),
        "operations": _operations(received),
        "components": {"messages": sent_messages | received_messages, "schemas": definitions["$defs"]},
    }


@cache
def asyncapi_json(out: str, inbound: str) -> bytes:
    """Return the document as indented JSON, as it is served."""
    return pydantic_core.to_json(asyncapi_document(out, inbound), indent=2)


def _channels(outbound: str, inbound: str, received: Any) -> dict[str, Any]:
    return {
        "out": _channel_object(
            outbound, "The Redis stream of changes of cases: each entry has one field `event`.", PAYLOAD_BY_EVENT_TYPE
        ),
        "webhooks": _channel_object(
            None,
            "The same events, sent by POST to each endpoint and signed according to Standard Webhooks.",
            PAYLOAD_BY_EVENT_TYPE,
        ),
        "in": _channel_object(
            inbound, "The Redis stream that the service reads: each entry has a field `event` or `data`.", received
        ),
        "http": _channel_object("/support/events", "The same events by HTTP POST, structured or binary.", received),
    }


def _operations(received: Any) -> dict[str, Any]:
    return {
        "publish": _operation_object(
            "send",
            "out",
            PAYLOAD_BY_EVENT_TYPE,
            "Publish a change of a case.",
            "Each change is added once it is committed.",
        ),
        "deliver": _operation_object(
            "send",
            "webhooks",
            PAYLOAD_BY_EVENT_TYPE,
            "Send a change of a case to an endpoint.",
            "An event that an endpoint does not accept is repeated for a day.",
        ),
        "consume": _operation_object(
            "receive",
            "in",
            received,
            f"Add a message to open cases that reference the {join_with_or(SERVICE_BY_KIND)}.",
            "An event that can't be read becomes a dead letter.",
        ),
        "accept": _operation_object(
            "receive",
            "http",
            received,
            "Receive an event by HTTP, and process it like an event of the stream.",
            "An event that can't be read is refused with 422.",
        ),
    }


def _message_object(kind: str, model: Any, source: str | None) -> dict[str, Any]:
    """Return a message object: a structured CloudEvent with the model as `data`.

    `source` is set for outbound events, whose attributes are all present.
    """
    text = {"type": "string"}
    attributes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": text | {"minLength": 1, "maxLength": 255},
        "source": {"const": source} if source else text | {"minLength": 1, "maxLength": 255},
        "type": {"const": kind},
        "time": text | {"format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "traceparent": text | {"description": "W3C trace context of what caused the event, if it is known"},
        "tracestate": text,
    }
    required = ["specversion", "id", "source", "type", "data"]
    if source:
        attributes["subject"] = text | {"description": "the case's id; `database` for an event of the database"}
        required += ["time", "subject", "datacontenttype"]
    data = {"$ref": REFERENCE_TEMPLATE.format(model=model.__name__)}
    return {
        "name": kind,
        "title": model.__name__,
        "summary": (model.__doc__ or "").strip(),
        "contentType": STRUCTURED_MEDIA_TYPE,
        "payload": {"type": "object", "required": required, "properties": attributes | {"data": data}},
    }


def _channel_object(address: str | None, description: str, messages: Any) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in messages},
    }


def _operation_object(action: str, channel: str, messages: Any, summary: str, description: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "description": description,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{kind}"} for kind in messages],
    }

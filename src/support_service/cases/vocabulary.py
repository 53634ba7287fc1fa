"""What each field of a case may hold, as clients send it. Pure."""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import pydantic_core
from pydantic import AfterValidator, BeforeValidator, Field

from support_service.core.json_limits import TEXT

Status = Literal["open", "pending", "resolved", "closed"]
AuthorType = Literal["agent", "customer", "bot"]
Visibility = Annotated[
    Literal["public", "internal"],
    Field(description="what is internal, be it a note or a file, is for agents' eyes, never for customers'"),
]
Json = dict[str, Any]
AnyJson = TypeVar("AnyJson", Json, list[Json])

# Readers of the schema disagree on what is a space: these are spaces for one or the other of them.
VISIBLE = r"[^\s\u001c-\u001f\u0085\ufeff]"
MAX_TEXT = 65_536  # characters in a description or message
MAX_CONTEXT = 500  # entries
MAX_JSON = 65_536  # bytes of a field that holds any JSON
EXPONENT = re.compile(rb"e(?<=[0-9]e)[-+]?[0-9]")  # the letter first: it is searched for in a fifth of the time
SHORTENED = re.compile(rb"(?<![0-9.])[0-9.]++e[-+]?[0-9]+")


def length_in_full(text: bytes) -> int:
    """The length of JSON with its numbers in full, as PostgreSQL gives them back: `1e+308` has 309 digits there."""
    if not EXPONENT.search(text):  # as in most JSON; what is found may be in one of its texts
        return len(text)
    shortened = SHORTENED.findall(TEXT.sub(b"", text))
    return len(text) + sum(len(f"{Decimal(number.decode()):f}") - len(number) for number in shortened)


def _not_blank(value: str) -> str:
    if not re.search(VISIBLE, value):
        raise ValueError("must not be blank")
    return value


def _bounded(value: AnyJson) -> AnyJson:
    # Written without a space, whatever it was sent with; that takes less than a microsecond for what is small.
    text = pydantic_core.to_json(value)
    if len(text) > MAX_JSON or length_in_full(text) > MAX_JSON:
        raise ValueError(f"must have at most {MAX_JSON:,} bytes as compact JSON")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _priority(value: object) -> object:
    return "normal" if value == "medium" else value


NOT_BLANK = Field(min_length=1, json_schema_extra={"pattern": VISIBLE})
SentPriority = Literal["low", "normal", "high", "urgent", "medium"]
Priority = Annotated[
    Literal["low", "normal", "high", "urgent"],
    BeforeValidator(_priority, json_schema_input_type=SentPriority),
    Field(description="how urgent it is; `medium` is read as `normal`"),
]
Subject = Annotated[str, NOT_BLANK, Field(max_length=255), AfterValidator(_not_blank)]
Description = Annotated[str, Field(max_length=MAX_TEXT)]
Identifier = Annotated[str, Field(min_length=1, max_length=36)]
Channel = Annotated[
    str,
    NOT_BLANK,
    Field(max_length=32, description="where the customer writes from, as `email`, `chat` or `phone`"),
    AfterValidator(_not_blank),
]
Text = Annotated[str, NOT_BLANK, Field(max_length=MAX_TEXT), AfterValidator(_not_blank)]
Context = Annotated[
    list[Json],
    Field(  # before the other, or all entries are looked at before they are counted
        max_length=MAX_CONTEXT,
        description="what the case is about: `{type: order, orderId}`, `{type: payment, paymentId}`, `{type: shipment, "
        "shipmentId}`, or anything else; one object stands for a list of one; at most 64 KiB as compact JSON, numbers "
        "without exponents",
    ),
    BeforeValidator(_as_list, json_schema_input_type=list[Json] | Json),
    AfterValidator(_bounded),
]
Metadata = Annotated[
    Json,
    Field(description="anything else about the message; at most 64 KiB as compact JSON, numbers without exponents"),
    AfterValidator(_bounded),
]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)]
Uri = Annotated[str, Field(max_length=2048, description="where a file that belongs to the message lies")]
Sentiment = Annotated[str, Field(max_length=32, description="how it reads, as `negative`; kept as it is sent")]

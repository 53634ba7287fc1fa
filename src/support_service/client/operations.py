"""What all operations of the client share: reading, writing once, and lists of several pages."""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Protocol, TypeVar, cast
from uuid import uuid4

import pydantic_core
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from support_service.cases.model.vocabulary import format_duration
from support_service.client.errors import UnexpectedAnswer
from support_service.client.parameters import NESTED
from support_service.client.transport import Answer, Request, Transport

JSON = "application/json"
Version = int | None  # the version that an object must still have, None for any
Key = str | None  # an idempotency key, None for a new one
ENTITY_TAG = re.compile(r'"(\d+)[^"]*"')  # the version, and what tells this view of the object from others
UNKNOWN_VERSION = 0  # of a model without an ETag, such as an item of a list; no case has this version

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Page(Protocol[Item_co]):
    """A page of a list."""

    @property
    def items(self) -> Sequence[Item_co]:
        """The items of the page."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page; None on the last one."""


class Operations:
    """Operations of one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _read(self, model: type[Model], path: tuple[str, ...], **query: object) -> Model:
        """Get an object. Query parameters are in snake_case; parameters that are None are left out."""
        return parse_answer(model, await self._transport.send(Request("GET", path, json_members(query))))

    async def _read_list(self, model: type[Model], path: tuple[str, ...]) -> list[Model]:
        """Get a list of objects."""
        answer = await self._transport.send(Request("GET", path))
        try:
            parsed = _list_adapter(model).validate_json(answer.body)
        except ValueError as failure:
            raise UnexpectedAnswer("unexpected_answer", f"the answer is no list of {model.__name__}") from failure
        for item in parsed:
            forget_unsent(item)
        return parsed

    async def _write(
        self,
        model: type[Model],
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, object] | None = None,
        version: Version = None,
        *,
        key: Key = None,
    ) -> Model:
        """Make a change, and return the object that the service answers."""
        return parse_answer(model, await self._send(method, path, body, version, key=key))

    async def _send(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, object] | None = None,
        version: Version = None,
        *,
        key: Key = None,
    ) -> Answer:
        """Make a change, once: every attempt has the same idempotency key. Members of the body are in snake_case."""
        headers = write_headers(version, key)
        if body is not None:
            headers["Content-Type"] = JSON
        sent = None if body is None else pydantic_core.to_json(json_members(body))
        return await self._transport.send(Request(method, path, body=sent, headers=headers))

    async def _items(
        self, model: type[Page[Item]], path: tuple[str, ...], page_size: int | None, **query: object
    ) -> AsyncGenerator[Item, None]:
        """Yield the items of every page. Query parameters are in snake_case."""
        cursor = None
        while True:
            page: Page[Item] = await self._read(cast("type[Any]", model), path, **query, limit=page_size, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return


@cache
def _list_adapter(model: type[Model]) -> TypeAdapter[list[Model]]:
    return TypeAdapter(list[model])  # type: ignore[valid-type]


def write_headers(version: Version, key: Key) -> dict[str, str]:
    """Return the headers of a write: its idempotency key, and the version that it expects, if any."""
    headers = {"Idempotency-Key": key or str(uuid4())}
    return headers if version is None else headers | {"If-Match": f'"{version}"'}


def parse_answer(model: type[Model], answer: Answer) -> Model:
    """Return an answer as a model, with the version of its ETag if the model has one. Raises UnexpectedAnswer."""
    try:
        parsed = model.model_validate_json(answer.body)
    except ValidationError as failure:
        wrong = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "the answer"
        raise UnexpectedAnswer(
            "unexpected_answer", f"the answer has another form than expected: {where}: {wrong['msg']}", answer.status
        ) from failure
    forget_unsent(parsed)
    tag = ENTITY_TAG.fullmatch(answer.headers.get("ETag", ""))
    if tag and "version" in model.model_fields:
        setattr(parsed, "version", int(tag[1]))  # noqa: B010 - not every model has one
    return parsed


def forget_unsent(parsed: BaseModel) -> None:
    """Delete the fields that no answer has, of a model and its parts: a default would look sent. A version is 0."""
    for name in _unsent_fields(type(parsed)):
        if name == "version":
            setattr(parsed, name, UNKNOWN_VERSION)
        else:
            delattr(parsed, name)
    for value in parsed.__dict__.values():
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, BaseModel):
                forget_unsent(part)


@cache
def _unsent_fields(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name, field in model.model_fields.items() if field.exclude)


def json_members(fields: Mapping[str, object]) -> dict[str, Any]:
    """Return fields by the names that they have in JSON, also inside NESTED fields, and durations as they are read."""
    return {
        to_camel(name): json_members(value)
        if name in NESTED and isinstance(value, Mapping)
        else format_duration(value)
        if isinstance(value, timedelta)
        else value
        for name, value in fields.items()
    }

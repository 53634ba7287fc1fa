"""The calls to a source for the references of a case, and how their answers are read. Pure: no I/O.

A reader turns an answer (parsed JSON) into entries, and raises ValueError if it does not match the contract.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.source import Source, SourcePart
from support_service.timeline.merge import Entry, normalise_time

MAX_ITEMS_PER_ORDER = 50  # objects requested for one order


UNREADABLE_ANSWER = "unreadable answer"
ANOTHER_ID = "answer about another id"  # than the one asked for, such as the order of another customer


@dataclass(frozen=True, slots=True)
class SourceCall:
    """One GET request to a service: the path with its query, and the reader of the parsed answer."""

    path: str
    parse: Callable[[object], list[Entry]]


def calls_for(source: Source, references: SourceReferences) -> Iterator[SourceCall]:
    """Yield the calls for each object and its parts, and a call for the objects of each order."""
    for item in references.ids:
        path = f"{source.path}/{path_segment(item)}"
        yield SourceCall(path, partial(parse_object_answer, source, item))
        for part in source.parts:
            yield SourceCall(f"{path}/{part.path}", partial(parse_part_answer, source, part))
    for order in references.of_orders:
        yield SourceCall(
            f"{source.path}?orderId={path_segment(order)}&limit={MAX_ITEMS_PER_ORDER}",
            partial(parse_page_answer, source, order),
        )


def path_segment(reference: str) -> str:
    """Return a reference encoded as one path segment or query value.

    A reference of dots only is encoded too: `.` and `..` would be resolved as relative path segments.
    """
    encoded = quote(reference, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded


def parse_object_answer(source: Source, asked: str, answer: object) -> list[Entry]:
    """Read the object with the id asked for: `{id, createdAt, updatedAt}` and the fields of the entry's members."""
    return [_object_entry(source, _require_object(answer, _called(source)), "id", asked)]


def parse_page_answer(source: Source, order: str, answer: object) -> list[Entry]:
    """Read the objects of an order: `{items: […]}`. An object that names no order counts as one of this order."""
    items = _require(_require_object(answer, "a page"), "items", "a page")
    return [_object_entry(source, item, "orderId", order) for item in _require_objects(items, "items of a page")]


def _object_entry(source: Source, found: Mapping[str, Any], asked_by: str, asked: str) -> Entry:
    """Return the entry of an object whose field `asked_by` must be the id asked for, in upper or lower case."""
    own_id = _require(found, "id", _called(source))
    named = found.get(asked_by)
    if named is not None and str(named).casefold() != asked.casefold():
        raise ValueError(ANOTHER_ID, f"asked for {asked_by} {asked!r:.80}, answered about {named!r:.80}")
    at = normalise_time(found.get("updatedAt")) or normalise_time(found.get("createdAt"))
    return _new_entry(source, source.kind, at) | {f"{source.kind}Id": own_id} | _members_from(source.members, found)


def _called(source: Source) -> str:
    return f"{'an' if source.kind[0] in 'aeiou' else 'a'} {source.kind}"


def parse_part_answer(source: Source, part: SourcePart, answer: object) -> list[Entry]:
    """Read further entries about an object: a list of `{createdAt}` and the fields of the entries' members."""
    return [
        _new_entry(source, part.entry_type, normalise_time(found.get("createdAt"))) | _members_from(part.members, found)
        for found in _require_objects(answer, f"{source.kind} {part.path}")
    ]


def _new_entry(source: Source, entry_type: str, at: str | None) -> Entry:
    return {"type": entry_type, "timestamp": at, "source": f"{source.service}-service"}


def _members_from(members: Mapping[str, str], found: Mapping[str, Any]) -> Entry:
    return {member: found.get(field) for member, field in members.items()}


def _require_object(answer: object, what: str) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError(f"{what} must be an object")  # noqa: TRY004 - as any other fault of the answer
    return answer


def _require_objects(answer: object, what: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise ValueError(f"{what} must be a list of objects")
    return answer


def _require(found: Mapping[str, Any], name: str, what: str) -> Any:
    """Return a member of an object that must not be missing or null."""
    if found.get(name) is None:
        raise ValueError(f"{what} has no {name}")
    return found[name]

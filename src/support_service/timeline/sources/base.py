"""Declaration of a timeline source: the calls to its service, and how it reads the answers. Pure: no I/O.

A reader turns an answer (parsed JSON) into entries, and raises ContractViolation if it does not match the contract.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import OBJECTS, UpstreamService
from support_service.timeline.merge import Entry, normalise_time

MAX_ITEMS_PER_ORDER = 50  # objects requested for one order

Reader = Callable[[object], list[Entry]]


class ContractViolation(ValueError):
    """An upstream answer that does not match the contract."""


@dataclass(frozen=True, slots=True)
class SourceCall:
    """One GET request to a service: the path with its query, and the reader of the parsed answer."""

    path: str
    read: Reader


@dataclass(frozen=True, slots=True)
class Source:
    """A source of timeline entries.

    `amounts` and `personal` are members of its entries, beside ids, `type`, `timestamp`, `source` and `status`. They
    say how entries are masked for analysts: the values of `amounts` stay visible; the name of a `personal` member stays
    and its value is masked. A member that is not listed is masked with its name.
    """

    service: UpstreamService
    path: str  # of the service's objects; `{path}/{id}` is one of them
    calls: Callable[[SourceReferences], Iterator[SourceCall]]
    amounts: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()


def calls_by_id_and_order(path: str, read: Reader) -> Callable[[SourceReferences], Iterator[SourceCall]]:
    """Return a function that yields a call for each object, and a call for the objects of each order."""
    read_items = page_reader(read)

    def calls(wanted: SourceReferences) -> Iterator[SourceCall]:
        for item in wanted.ids:
            yield SourceCall(f"{path}/{path_segment(item)}", read)
        for order in wanted.of_orders:
            yield SourceCall(f"{path}?orderId={path_segment(order)}&limit={MAX_ITEMS_PER_ORDER}", read_items)

    return calls


def path_segment(reference: str) -> str:
    """Return a reference encoded as one path segment or query value.

    A reference of dots only is encoded too: `.` and `..` would be resolved as relative path segments.
    """
    encoded = quote(reference, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded


def entry_source(service: UpstreamService) -> str:
    """Return `source` of the entries that a service gives a timeline."""
    return f"{service}-service"


def object_reader(service: UpstreamService, **members: str) -> Reader:
    """Return a reader of one object: `{id, createdAt, updatedAt}` and further fields.

    `members` maps further members of the entry to the fields of the answer that they are from.
    """
    kind = OBJECTS[service].kind
    what = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"

    def read(answer: object) -> list[Entry]:
        found = require_object(answer, what)
        at = normalise_time(found.get("updatedAt")) or normalise_time(found.get("createdAt"))
        entry = {
            "type": kind,
            "timestamp": at,
            "source": entry_source(service),
            f"{kind}Id": require(found, "id", what),
        }
        return [entry | {member: found.get(field) for member, field in members.items()}]

    return read


def page_reader(read: Reader) -> Reader:
    """Return a reader of a page `{items: […]}`, which reads each item with `read`."""

    def read_page(answer: object) -> list[Entry]:
        items = require(require_object(answer, "a page"), "items", "a page")
        return [entry for item in require_objects(items, "items of a page") for entry in read(item)]

    return read_page


def require_object(answer: object, what: str) -> Mapping[str, Any]:
    """Return the answer if it is an object."""
    if not isinstance(answer, dict):
        raise ContractViolation(f"{what} must be an object")
    return answer


def require_objects(answer: object, what: str) -> Sequence[Mapping[str, Any]]:
    """Return the answer if it is a list of objects."""
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise ContractViolation(f"{what} must be a list of objects")
    return answer


def require(found: Mapping[str, Any], name: str, what: str) -> Any:
    """Return a member of an object that must not be missing or null."""
    if found.get(name) is None:
        raise ContractViolation(f"{what} has no {name}")
    return found[name]

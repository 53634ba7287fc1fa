"""The declaration of a timeline source: what the service must know of an upstream service. Data only.

Each module of sources/ has one; upstream_services.py finds them. This module imports only the standard library, because
the command line's help reads it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class SourcePart(NamedTuple):
    """Further entries about an object: `{path of the object}/{path}` has a list of `{createdAt}` and more."""

    path: str
    entry_type: str
    members: Mapping[str, str]  # of an entry, each with the field that it is from


class Source(NamedTuple):
    """An upstream service: the objects that cases refer to, and the entries that they give a timeline.

    `{path}/{id}` is an object, `{id, createdAt, updatedAt}` and more. `{path}?orderId={id}` is a page of the objects of
    an order, `{items: […]}`; of orders it is never asked.

    `amount_members` and `personal` say how entries are masked for analysts. The values of `amount_members` stay visible
    up to a bound. The name of a `personal` member stays, and its value is masked. Ids, `type`, `timestamp`, `source`
    and `status` need no mention.
    A member that is not listed is masked with its name.
    """

    service: str  # its name: a word, as in `SUPPORT_<NAME>_URL`, in labels and as `origin` of entries
    kind: str  # a word: `type` of context entries that refer to an object; its id is in `<kind>Id`, `<kind>_id` or `id`
    path: str
    members: Mapping[str, str]  # of an entry, beside its id and time, each with the object's field that it is from
    example: Mapping[str, Any]  # an object for simulated services, without times and the id of its order
    place: int = 100  # in timelines and documents; equal places are in the order of the names
    parts: tuple[SourcePart, ...] = ()
    amount_members: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    variables: tuple[str, ...] = ()  # members of an entry that macros insert as `{{<kind>.<member>}}`
    other_ids: Mapping[str, str] = {}  # other ids of an object in a context entry: (camelCase) name, kind

    @property
    def entry_types(self) -> tuple[str, ...]:
        """`type` of the timeline entries that the service gives."""
        return (self.kind, *(part.entry_type for part in self.parts))

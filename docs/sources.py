"""Write docs/api/sources.md from the declarations of the sources, or with --check only say whether it is up to date."""

import sys
from collections.abc import Iterable
from pathlib import Path

from generated_page import write_or_check

from support_service.core.domain.source import Source
from support_service.core.domain.upstream_services import SOURCES, url_variable

PAGE = Path(__file__).parent / "api/sources.md"
HEAD = """\
# Sources of the timeline

`make generate` writes this page from `src/support_service/core/domain/sources/`, where each upstream service is
declared once. An object in the context of a case refers to an object of the service, by its id or by the id of its
order. The filter finds such cases. `references` is in the page of a [customer](customers.md).
[Macros](macros.md) insert the variables.
"""
COLUMNS = ("service", "setting", "in a context", "filter", "in `references`", "variables of macros")
ENTRIES = """
## Entries

Each service is asked for an object by its id. Objects without an id in the context are asked for by their order, at
most 50 for each order. The answer is `{id, createdAt, updatedAt}` and the fields below, or `{"items": [...]}` for an
order. Entries have `type`, `timestamp`, `source` and the members below. Analysts are shown a status of
one word, and amounts of at most eight digits before the point. Of a larger amount they are shown a bound, such as
`>= 100000000`. Ids become pseudonyms, and other members are masked.
"""
ENTRY_COLUMNS = ("`type`", "path", "members", "fields of the answer", "amounts")


def page() -> str:
    """Return the page for the declared sources."""
    sources = SOURCES.values()
    return "\n".join(
        (
            HEAD,
            *_table(COLUMNS, map(_row, sources)),
            ENTRIES,
            *_table(ENTRY_COLUMNS, (row for source in sources for row in _entries(source))),
            "",
        )
    )


def _row(source: Source) -> tuple[str, ...]:
    kind = source.kind
    variables = _code(f"{{{{{kind}.{member}}}}}" for member in source.variables)
    context = f"{{type: {kind}, {', '.join((f'{kind}Id', *source.other_ids))}}}"
    return source.service, f"`{url_variable(source.service)}`", f"`{context}`", f"`{kind}Id`", f"`{kind}s`", variables


def _entries(source: Source) -> Iterable[tuple[str, ...]]:
    path, own_id = f"{source.path}/{{id}}", f"{source.kind}Id"
    yield _entry(source, source.kind, path, {own_id: "id"} | dict(source.members))
    for part in source.parts:
        yield _entry(source, part.entry_type, f"{path}/{part.path}", dict(part.members))


def _entry(source: Source, entry_type: str, path: str, members: dict[str, str]) -> tuple[str, ...]:
    amounts = _code(member for member in members if member in source.amount_members)
    return f"`{entry_type}`", f"`{path}`", _code(members), _code(members.values()), amounts


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = tuple(columns)
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, {PAGE: page()}))

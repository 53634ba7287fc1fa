"""Macros: list, create, read, replace, delete, and the preview for a case before an agent sends it."""

import pydantic_core

from support_service.api.cases import CASE_PATH
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post, put
from support_service.api.routing.etags import KnownTags, is_known_etag, version_etag_header
from support_service.api.routing.route import CASE_PROBLEMS, DATABASE_PROBLEMS, Permission, RouteResponse, Tag
from support_service.core.domain.macro_variables import CaseValues, fill_variables, has_variables_of_services
from support_service.core.domain.references import references_by_service
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.macro_models import (
    FilledMacro,
    Macro,
    MacroContent,
    MacroPage,
    MacroQuery,
    NewMacro,
    UnfilledVariable,
)

TAG = Tag("macros", "Macros: texts with variables for answers to customers.")
MACROS_PATH = "/support/macros"
MACRO_PATH = MACROS_PATH + "/{macro_name}"

MACROS_READ = Permission("macros:read", {"agent": "all", "supervisor": "all"})
MACROS_WRITE = Permission("macros:write", {"supervisor": "all"})
MACROS_PREVIEW = Permission("macros:preview", {"agent": "own", "supervisor": "all"})


@get(MACROS_PATH, access=MACROS_READ, problems=DATABASE_PROBLEMS)
async def list_macros(call: Call, query: MacroQuery) -> Reply[MacroPage]:
    """List macros, oldest first.

    `nextCursor` requests the next page, and is null on the last one.
    """
    found, cursor = await call.service.macros.list_macros(query.cursor, query.limit)
    return Reply(MacroPage.model_construct(items=found, next_cursor=cursor))


@post(
    MACROS_PATH,
    access=MACROS_WRITE,
    status=201,
    headers=("ETag", "Location"),
    problems=(*DATABASE_PROBLEMS, "macro_exists", "too_many_macros"),
    links=(("macro_name", "/name"),),
)
async def create_macro(call: Call, body: NewMacro) -> Reply[Macro]:
    """Create a macro.

    Variables in its text are names between two braces, such as `{{order.status}}`. An unknown one is refused.
    """
    macro = await call.service.macros.create(call.origin, body.name, body)
    return Reply(macro, {"Location": f"{MACROS_PATH}/{macro.name}", **version_etag_header(macro.version)})


@get(
    MACRO_PATH,
    access=MACROS_READ,
    headers=("ETag",),
    other_responses=(RouteResponse(304, "The macro has not changed.", headers=("ETag",)),),
    problems=(*DATABASE_PROBLEMS, "macro_not_found"),
)
async def get_macro(call: Call, macro_name: str, known: KnownTags) -> Reply[Macro | None]:
    """Get a macro.

    The text has its variables as they were saved.
    """
    macro = await call.service.macros.get(macro_name)
    etag = version_etag_header(macro.version)
    return Reply(None, etag, 304) if is_known_etag(etag, known) else Reply(macro, etag)


@put(
    MACRO_PATH,
    access=MACROS_WRITE,
    headers=("ETag",),
    other_responses=(RouteResponse(201, "The macro was created.", Macro, headers=("ETag", "Location")),),
    problems=(*DATABASE_PROBLEMS, "macro_changed", "macro_exists", "too_many_macros"),
)
async def put_macro(call: Call, macro_name: str, body: MacroContent, expected: ExpectedVersions) -> Reply[Macro]:
    """Replace a macro, or create it.

    All fields are replaced; fields that are not sent get their defaults. The name is that of the path, and does not
    change.
    """
    macro, created = await call.service.macros.put(call.origin, macro_name, body, expected)
    if created:
        return Reply(macro, {"Location": f"{MACROS_PATH}/{macro.name}", **version_etag_header(macro.version)}, 201)
    return Reply(macro, version_etag_header(macro.version))


@delete(MACRO_PATH, access=MACROS_WRITE, problems=(*DATABASE_PROBLEMS, "macro_changed", "macro_not_found"))
async def delete_macro(call: Call, macro_name: str, expected: ExpectedVersions) -> Reply[None]:
    """Delete a macro.

    Messages that were written with it stay as they are.
    """
    await call.service.macros.delete(call.origin, macro_name, expected)
    return Reply(None)


@post(
    CASE_PATH + "/macros/{macro_name}/preview",
    access=MACROS_PREVIEW,
    stores_response=False,  # it changes nothing
    problems=(*CASE_PROBLEMS, "macro_not_found"),
)
async def preview_macro(call: Call, case_id: str, macro_name: str) -> Reply[FilledMacro]:
    """Fill a macro from a case and its timeline.

    The services are asked as for a timeline, and only if the text has a variable that needs one. A value that is not
    current is never used: the variable stays in the text, and `unfilled` has it with the reason. Nothing is changed, so
    an `Idempotency-Key` is ignored.
    """
    principal, service = call.principal, call.service
    stored = await service.cases.read_case_page(principal, case_id, None, 1)  # a long conversation is not needed
    macro = await service.macros.get(macro_name)
    case = pydantic_core.from_json(stored.fields or "{}")
    values = CaseValues(case, references_by_service(case["context"]))
    if has_variables_of_services(macro.text):
        collected = await service.timeline.collect(principal, case_id, values.references, epoch=stored.timeline_epoch)
        values = CaseValues(case, values.references, collected.entries, collected.sources)
    filled = fill_variables(macro.text, values)
    unfilled = [
        UnfilledVariable.model_construct(variable=name, reason=reason) for name, reason in filled.unfilled.items()
    ]
    return Reply(FilledMacro.model_construct(text=filled.text, status=macro.status, tags=macro.tags, unfilled=unfilled))

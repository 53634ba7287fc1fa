"""The preview of a macro for a case: its text with the variables filled, before an agent sends it."""

import pydantic_core

from support_service.api.cases import CASE
from support_service.api.macros import TAG
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission, Route
from support_service.core.domain.references import references_by_service
from support_service.desk.macro_models import FilledMacro, UnfilledVariable
from support_service.desk.macro_variables import CaseValues, fill, needs_services


async def preview_macro(call: Call, case_id: str, macro_name: str) -> Reply[FilledMacro]:
    """Fill a macro from a case and its timeline.

    The services are asked as for a timeline, and only if the text has a variable that needs one. A value that is not
    current is never used: the variable stays in the text, and `unfilled` has it with the reason. Nothing is changed, so
    an `Idempotency-Key` is ignored.
    """
    principal, services = call.principal, call.services
    stored = await services.cases.read_case_page(principal, case_id, None, 1)  # a long conversation is not needed
    macro = await services.macros.get(macro_name)
    case = pydantic_core.from_json(stored.fields or "{}")
    values = CaseValues(case, references_by_service(case["context"]))
    if needs_services(macro.text):
        collected = await services.timeline.collect(principal, case_id, values.references, epoch=stored.timeline_epoch)
        values = CaseValues(case, values.references, collected.entries, collected.sources)
    filled = fill(macro.text, values)
    unfilled = [
        UnfilledVariable.model_construct(variable=name, reason=reason) for name, reason in filled.unfilled.items()
    ]
    return Reply(FilledMacro.model_construct(text=filled.text, status=macro.status, tags=macro.tags, unfilled=unfilled))


ROUTES = (
    Route(
        operation="preview_macro",
        tag=TAG,
        method="POST",
        path=CASE + "/macros/{macro_name}/preview",
        handler=preview_macro,
        access=Permission("macros:preview", {"agent": "own", "supervisor": "all"}),
        stores_response=False,  # it changes nothing
        response_model=FilledMacro,
        problems=(*CASE_PROBLEMS, "macro_not_found"),
    ),
)

"""Hooks that add to generated requests what the OpenAPI document cannot express."""

import os
import re
from typing import Any
from uuid import uuid4

import schemathesis

from support_service.cases.model.examples import CASE_ID

CASE = os.environ["SCHEMATHESIS_CASE"]  # the id of a case that exists
KEY = "Idempotency-Key"
VALID_KEY = re.compile("[!-~]{1,255}")


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Replace the case of the examples by one that exists, except where the case is erased.

    Each valid key is replaced by a unique one, because a reused key is refused. Invalid keys stay.

    A generated `messagesAfter` is never the id of a message, a generated `cursor` is never one that a list gave, and
    `messagesLimit` excludes `includeTimeline`.
    """
    if case.path_parameters.get("case_id") == CASE_ID and case.operation.label != "DELETE /support/cases/{case_id}":
        case.path_parameters["case_id"] = CASE
    if case.query:
        case.query.pop("messagesAfter", None)
        case.query.pop("cursor", None)
        if "includeTimeline" in case.query:
            case.query.pop("messagesLimit", None)
    if case.headers and VALID_KEY.fullmatch(str(case.headers.get(KEY, ""))):
        case.headers[KEY] = str(uuid4())

"""What schemathesis can't know of the requests that it makes."""

import re
from typing import Any
from uuid import uuid4

import schemathesis

KEY = "Idempotency-Key"
FIT = re.compile("[!-~]{1,255}")


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Let each key name one request, since the same few keys for all would be refused; keys that are none stay."""
    if case.headers and FIT.fullmatch(str(case.headers.get(KEY, ""))):
        case.headers[KEY] = str(uuid4())

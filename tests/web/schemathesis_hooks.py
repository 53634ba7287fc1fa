"""What schemathesis can't know of keys: each names one request, so that the next one takes another."""

from itertools import count

import schemathesis

from support_service.web.idempotency import FORM, HEADER

NUMBERS = count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Give a request whose key is a good one a key that no other has; bad ones are sent as they are."""
    key = (case.headers or {}).get(HEADER)
    if isinstance(key, str) and FORM.fullmatch(key):
        case.headers[HEADER] = f"key-{next(NUMBERS)}"

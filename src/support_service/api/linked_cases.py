"""A case read together with its duplicates. Such an answer depends on several cases, so it is not kept."""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import pydantic_core

from support_service.api.routing.services import Services
from support_service.cases.store.case_reading import StoredCase
from support_service.core.domain.principals import Principal, View


async def read_with_duplicates(
    services: Services, principal: Principal, view: View, case_id: str
) -> tuple[StoredCase, bytes]:
    """Return a case, and its JSON with the messages and files of its duplicates. Raises NotFound and RateLimited.

    Only those duplicates count that the principal may see.
    """
    stored = await services.cases.read_long_case(principal, case_id)
    duplicates = await services.links.read_duplicates(principal, case_id)
    messages: list[str] = [stored.messages or "[]", *(each.messages for each in duplicates)]
    files: list[str] = [stored.attachments or "[]", *(each.attachments for each in duplicates)]
    services.admission.check_debt(principal.name, sum(map(len, messages + files)))
    return stored, await services.documents.encode_apart(view, partial(_merge, stored, messages, files))


def _merge(original: StoredCase, messages: Sequence[str], files: Sequence[str]) -> StoredCase:
    return original._replace(messages=_by_time(messages), attachments=_by_time(files))


def _by_time(parts: Sequence[str]) -> str:
    """Return JSON lists as one, in the order of `createdAt`, which the databases write in one format."""
    rows: list[dict[str, Any]] = [row for part in parts for row in pydantic_core.from_json(part)]
    rows.sort(key=itemgetter("createdAt"))
    return pydantic_core.to_json(rows, inf_nan_mode="null").decode()

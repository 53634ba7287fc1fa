"""What a caller needs to know if a case was changed since it was read: the version, and the messages added since."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pydantic_core

from support_service.cases.store.messages_since import read_since
from support_service.core.domain.principals import Principal
from support_service.core.errors import VersionConflict
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.platform.database import Reader

MAX_MESSAGES = 50  # the newest ones


@asynccontextmanager
async def describe_conflict(
    reader: Reader, principal: Principal, case_id: str, expected: ExpectedVersions
) -> AsyncIterator[None]:
    """Add to a VersionConflict of the block the case's version, and the messages that the principal does not know yet.

    The principal may see the case. If it sent no version, no message is new to it.
    """
    try:
        yield
    except VersionConflict as conflict:
        public_only = not principal.may_see_visibility("internal")
        most = MAX_MESSAGES if expected else 0
        found = await read_since(reader, case_id, max(expected or (0,)), most, public_only=public_only)
        if found is not None:
            conflict.members = {"currentVersion": found.version, "messages": pydantic_core.from_json(found.messages)}
        raise

"""Notifications of a change of a case: for people whom a note mentions, the followers, and the assigned agent.

The rows are a part of the transaction of the change. Who may see the case decides later, when a person reads them.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from support_service.cases.known_agents import KnownAgents
from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.sql import case_rows, notification_rows
from support_service.cases.sql.case_rows import CaseState
from support_service.core.domain.case_vocabulary import NotificationKind
from support_service.core.ids import new_id
from support_service.platform.unit_of_work import UnitOfWork

MAX_FOLLOWERS = 50  # of a case: each change adds a row for each of them
MAX_MENTIONED = 200  # people whom one note mentions, with the members of teams
_MENTION = re.compile(r"(?<![\w@.])@(?=([^\s@]\S{0,200}))")  # the next mention may follow without a space
# Characters that may follow an id, if the id itself does not have them.
_END_OF_SENTENCE = ".,;:!?)]}>\"'*_\u2026\u3002"
_NO_PART_OF_ID = re.compile(r"[,;!?()\[\]{}<>\"'/\u2013\u2014\u2019\u2026\u3001\u3002]")
NO_MEMBERS: Mapping[str, Any] = MappingProxyType({})
Kinds = Mapping[str, NotificationKind]
"""The kind of the notification for each person, by id."""


def find_mentions(text: str, known: KnownAgents) -> tuple[Collection[str], Collection[str]]:
    """Return the people whom a note mentions by their own ids, and all whom it mentions, at most MAX_MENTIONED.

    An id that is also the name of a team means the person.
    """
    people, everyone = dict[str, None](), dict[str, None]()
    for mention in _MENTION.finditer(text):
        for name in _possible_names(mention[1]):
            if known.find(name):
                people[name] = everyone[name] = None
                break
            if members := known.ids_of_team(name):
                everyone.update(dict.fromkeys(members[: MAX_MENTIONED - len(everyone)]))
                break
        if len(everyone) >= MAX_MENTIONED:
            break
    return people.keys(), everyone.keys()


def _possible_names(text: str) -> Iterator[str]:
    """Yield what a mention may name: all of it, then without what may follow an id in a sentence."""
    yield text
    yield text.rstrip(_END_OF_SENTENCE)
    yield _NO_PART_OF_ID.split(text, 1)[0].rstrip(_END_OF_SENTENCE)


async def _followers(
    work: UnitOfWork, case_id: str, case: CaseState | CaseSummary, kind: NotificationKind
) -> dict[str, NotificationKind]:
    """Return a notification of this kind for each person who follows a case, or a duplicate of it."""
    people = list(case.followers or ())
    if case.has_duplicates:
        people += await notification_rows.read_followers_of_duplicates(work.tx, case_id)
    return dict.fromkeys(people, kind)


class Notifier:
    """Stores notifications. Each method returns the members that the event of the change has about them."""

    def __init__(self, known: KnownAgents | None = None) -> None:
        self._known = known

    async def tell_of_message(
        self, work: UnitOfWork, message: Message, case: CaseState | None, at: datetime
    ) -> Mapping[str, Any]:
        """Tell the people whom a note mentions, and the followers of a note or of a message of the customer.

        Who is mentioned by the own id follows the case from then on, if it has room for another follower. A new case is
        None. Messages of bots notify no one: a gateway copies the texts of strangers into its notes.
        """
        if message.author_type == "bot":
            return NO_MEMBERS
        is_note = message.visibility == "internal"
        kinds = dict[str, NotificationKind]()
        if case and (is_note or message.author_type == "customer"):
            kinds = await _followers(work, message.ticket_id, case, "note" if is_note else "message")
        if is_note and self._known and "@" in message.message:
            people, everyone = find_mentions(message.message, self._known)
            kinds.update(dict.fromkeys(everyone, "mention"))
            await self._add_followers(work, message.ticket_id, (case and case.followers) or (), people)
        return await self._tell(work, message.ticket_id, at, kinds, message.id) if kinds else NO_MEMBERS

    async def tell_of_opening(self, work: UnitOfWork, case: CaseSummary, first: Message | None) -> Mapping[str, Any]:
        """Tell who a new case is assigned to, and the people whom its first note mentions."""
        kinds = dict[str, NotificationKind]()
        if case.assigned_agent_id:
            kinds[case.assigned_agent_id] = "assigned"
        told = await self.tell_of_message(work, first, None, case.created_at) if first else NO_MEMBERS
        for each in told.get("notified", ()):
            kinds.pop(each["agentId"], None)
        if not kinds:
            return told
        assigned = await self._tell(work, case.id, case.created_at, kinds)
        return {"notified": [*told.get("notified", ()), *assigned.get("notified", ())]} if assigned else told

    async def tell_of_assignment(self, work: UnitOfWork, before: CaseSummary, after: CaseSummary) -> Mapping[str, Any]:
        """Tell the new agent of a case, and the followers, of another agent or team."""
        kinds = await _followers(work, after.id, before, "assignment")
        if after.assigned_agent_id and after.assigned_agent_id != before.assigned_agent_id:
            kinds[after.assigned_agent_id] = "assigned"
        return await self._tell(work, after.id, after.updated_at, kinds) if kinds else NO_MEMBERS

    async def tell_of_status(self, work: UnitOfWork, before: CaseSummary, after: CaseSummary) -> Mapping[str, Any]:
        """Tell the followers of another status."""
        kinds = await _followers(work, after.id, before, "status")
        return await self._tell(work, after.id, after.updated_at, kinds) if kinds else NO_MEMBERS

    async def _add_followers(
        self, work: UnitOfWork, case_id: str, followers: Sequence[str], people: Collection[str]
    ) -> None:
        author = work.origin.principal.id
        added = [each for each in people if each not in followers and each != author]
        if added and len(followers) < MAX_FOLLOWERS:
            await case_rows.set_followers(work.tx, case_id, [*followers, *added][:MAX_FOLLOWERS])

    async def _tell(
        self, work: UnitOfWork, case_id: str, at: datetime, kinds: Kinds, message_id: str | None = None
    ) -> Mapping[str, Any]:
        """Store a notification for each person except the caller."""
        principal = work.origin.principal
        own_id, actor = (None, "customer") if principal.role == "customer" else (principal.id, principal.id)
        notified = [
            {"id": new_id(), "agentId": each, "kind": kind, "actorId": actor}
            for each, kind in kinds.items()
            if each != own_id
        ]
        if not notified:
            return NO_MEMBERS
        await notification_rows.add(work.tx, case_id, message_id, at, notified)
        return {"notified": notified}
